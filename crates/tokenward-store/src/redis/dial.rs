//! How a connection comes to be: dialed, introduced, and found to be with the server that takes our commands.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select, select_ok},
    stream::FuturesUnordered,
};
use redis::{
    AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use secrecy::ExposeSecret as _;
use tokenward_core::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{AbortHandle, JoinSet},
};

use super::{
    address::{Host, Target, Topology},
    facts::field,
    fault::judge,
    tls::Tls,
};
use crate::{StoreError, StoreErrorKind};

/// The version of what this program writes.
pub(super) const SCHEMA: u64 = 1;

/// Makes connections.
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    /// The key whose hash says what is in the store.
    pub(super) meta: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) connect_timeout: Duration,
}

/// A connection with a master, shared by all who send over it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) wire: MultiplexedConnection,
    pub(super) driver: Arc<Driver>,
    /// Which run of which server is at the other end.
    pub(super) run_id: Arc<str>,
    pub(super) host: Host,
}

/// The task that carries a connection, for as long as somebody waits for an answer over it.
pub(super) struct Driver {
    _task: JoinSet<()>,
    handle: AbortHandle,
}

impl Driver {
    /// Whether the connection is gone, though nobody was told.
    pub(super) fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }
}

/// What can be a connection.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Dialer {
    /// A connection with the master, within `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Connection, StoreError> {
        within(&*self.clock, limit, self.find()).await.unwrap_or_else(|| {
            let message = format!("the store at {}: no connection in time", self.target);
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        })
    }

    /// All guides are asked at once, and what each points at is tried: one that is slow, gone or mistaken holds up none.
    async fn find(&self) -> Result<Connection, StoreError> {
        let ways = self.guides().iter().map(|guide| {
            Box::pin(async move {
                let host = self.pointed(guide).await?;
                self.introduced(&host).await
            })
        });
        Ok(select_ok(ways).await?.0)
    }

    /// Those who tell where the master is.
    fn guides(&self) -> &[Host] {
        match &self.target.topology {
            Topology::Standalone(host) => std::slice::from_ref(host),
            Topology::Sentinel {
                sentinels: guides, ..
            }
            | Topology::Cluster(guides) => guides,
        }
    }

    /// Whether a server is a master still, and the one that is pointed at: by most sentinels, since one may be cut off together
    /// with a master that was deposed, or by a node of the cluster, which knows by itself when it is cut off.
    pub(super) async fn leads(&self, connection: &Connection) -> Result<bool, StoreError> {
        let mut role = redis::cmd("INFO");
        role.arg("replication");
        let mut wire = connection.wire.clone();
        let role: String = answered(&connection.host, role.query_async(&mut wire).await)?;
        if field(&role, "role") != Some("master") {
            return Ok(false);
        }
        let guides = self.guides();
        let needed = match self.target.topology {
            Topology::Standalone(_) => return Ok(true),
            Topology::Sentinel { .. } => guides.len() / 2 + 1,
            Topology::Cluster(_) => 1,
        };
        let mut asked: FuturesUnordered<_> = guides.iter().map(|guide| self.pointed(guide)).collect();
        let (mut agree, mut differ) = (0, 0);
        let mut unheard = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(host) if host == connection.host => agree += 1,
                Ok(_) => differ += 1,
                Err(error) => unheard = Some(error),
            }
            if agree >= needed || differ >= needed {
                return Ok(agree >= needed);
            }
        }
        let message = format!("too few of those who know agree where the store is: {needed} must");
        let error = StoreError::new(StoreErrorKind::Unavailable, message);
        Err(match unheard {
            Some(unheard) => error.because(unheard),
            None => error,
        })
    }

    /// A connection with this server, if it is a master that holds what we understand.
    async fn introduced(&self, host: &Host) -> Result<Connection, StoreError> {
        let (mut wire, driver) = self
            .open(host, self.user().set_db(self.target.database.into()))
            .await?;
        let mut questions = redis::pipe();
        questions
            .cmd("INFO")
            .arg("server")
            .cmd("INFO")
            .arg("replication")
            .cmd("HGET")
            .arg(&self.meta)
            .arg("schema");
        let answers: (String, String, Option<String>) =
            answered(host, questions.query_async(&mut wire).await)?;
        let (server, replication, schema) = answers;
        if field(&replication, "role") != Some("master") {
            let message = format!("the store at {host}: it is no master");
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        match schema.as_deref().map(str::parse::<u64>) {
            None => {
                // Where the store takes no writes, whoever writes is told.
                let mut mark = redis::cmd("HSETNX");
                mark.arg(&self.meta).arg("schema").arg(SCHEMA);
                let _: RedisResult<Value> = mark.query_async(&mut wire).await;
            }
            Some(Ok(SCHEMA)) => {}
            Some(Ok(newer)) if newer > SCHEMA => {
                let message = format!(
                    "the store at {host} is of version {newer}, which a newer tokenward wrote; this one knows {SCHEMA}"
                );
                return Err(StoreError::new(StoreErrorKind::Newer, message));
            }
            Some(_) => {
                let message = format!("the store at {host}: its version cannot be read");
                return Err(StoreError::new(StoreErrorKind::Corrupt, message));
            }
        }
        Ok(Connection {
            wire,
            driver: Arc::new(driver),
            run_id: field(&server, "run_id").unwrap_or_default().into(),
            host: host.clone(),
        })
    }

    /// A connection with a server, whatever it is.
    pub(super) async fn open(
        &self,
        host: &Host,
        who: RedisConnectionInfo,
    ) -> Result<(MultiplexedConnection, Driver), StoreError> {
        // The limits of time are ours, for a connection that was late must not be used again.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let who = who.set_skip_set_lib_name();
        let stream = answered(host, self.dial(host).await.map_err(RedisError::from))?;
        let opened = MultiplexedConnection::new_with_config(&who, stream, config).await;
        let (wire, driver) = answered(host, opened)?;
        let mut task = JoinSet::new();
        let handle = task.spawn(driver);
        Ok((wire, Driver { _task: task, handle }))
    }

    /// The user that we are.
    pub(super) fn user(&self) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default();
        if let Some(password) = &self.target.password {
            info = info.set_password(password.expose_secret());
        }
        if let Some(user) = &self.target.user {
            info = info.set_username(user);
        }
        info
    }

    async fn dial(&self, host: &Host) -> std::io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.connect(host, stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}

/// What was answered, or what its error means.
pub(super) fn answered<T>(host: &Host, answer: RedisResult<T>) -> Result<T, StoreError> {
    answer.map_err(|error| judge(&host.to_string(), &error).0)
}

/// `work`'s result, or nothing where it takes longer than `limit`. What is not finished by then is dropped.
pub(super) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), clock.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
