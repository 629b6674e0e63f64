//! A way to a server that can be disturbed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What is wrong with the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is cut: connections end, and new ones end at once.
    Cut,
    /// It hangs: what is sent does not arrive, in either direction, until the fault is another one.
    Hang,
    /// What the server answers takes so much longer.
    Slow(Duration),
}

/// Carries connections to a server, through a [`Fault`] that can be changed at any time.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    port: Arc<AtomicU16>,
    fault: watch::Sender<Fault>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A way to the port of this machine, on one of its own.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (fault, changes) = watch::channel(Fault::None);
        let port = Arc::new(AtomicU16::new(port));
        let leads_to = Arc::clone(&port);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, leads_to.load(Ordering::Relaxed), changes.clone()));
            }
        });
        Self {
            address,
            port,
            fault,
            _tasks: tasks,
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Leads to another port of this machine from now on; connections that there are stay where they are.
    pub fn leads_to(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// What is wrong from now on, for the connections that there are and for new ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn carry(client: TcpStream, port: u16, mut faults: watch::Receiver<Fault>) {
    if *faults.borrow() == Fault::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut changes = faults.clone();
    let asked = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if !passes(&mut changes).await
                || to_server
                    .write_all(bytes.get(..count).unwrap_or_default())
                    .await
                    .is_err()
            {
                return;
            }
        }
    };
    let mut later = faults.clone();
    let answered = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let fault = *later.borrow();
            if let Fault::Slow(by) = fault {
                wait(by).await;
            }
            if !passes(&mut later).await
                || to_client
                    .write_all(bytes.get(..count).unwrap_or_default())
                    .await
                    .is_err()
            {
                return;
            }
        }
    };
    let cut = faults.wait_for(|fault| *fault == Fault::Cut);
    tokio::select! {
        () = asked => {}
        () = answered => {}
        _ = cut => {}
    }
}

/// Waits while it hangs; false where that never ends.
async fn passes(faults: &mut watch::Receiver<Fault>) -> bool {
    faults.wait_for(|fault| *fault != Fault::Hang).await.is_ok()
}

#[expect(clippy::disallowed_methods, reason = "what is slow takes real time")]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}
