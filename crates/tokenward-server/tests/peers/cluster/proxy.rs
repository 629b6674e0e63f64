//! A way to Redis that can be cut.

use tokenward_testkit::{Fault, Proxy as Carrier};
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Proxy {
    carrier: Carrier,
    /// What carries: nothing else here is asynchronous.
    _runtime: Runtime,
}

impl Proxy {
    /// In front of a port of this machine.
    pub(crate) fn to(port: u16) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            carrier: runtime.block_on(Carrier::to(port)),
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.carrier.port())
    }

    /// Ends what is open, and lets nothing through until it is [mended](Self::mend).
    pub(crate) fn cut(&self) {
        self.carrier.set(Fault::Cut);
    }

    pub(crate) fn mend(&self) {
        self.carrier.set(Fault::None);
    }
}
