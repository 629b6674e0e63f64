//! The link to the server: a few connections that all share, and no waiting for a server that is known to be gone.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Pipeline, RedisResult, ToRedisArgs, Value, aio::MultiplexedConnection};
use tokio::task::JoinSet;

use super::{
    breaker::{Breaker, pauses},
    dial::{Connection, Dialer, within},
    fault::{Fate, is_unknown_script, judge},
    script::Script,
};
use crate::{StoreError, StoreErrorKind};

/// The way to the server. Clones share it.
///
/// A call takes the time limit of a command at most, and that of a connection where it has to make one first; none
/// where the breaker is open. Nothing is sent twice: a call whose answer is lost may have taken effect.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    dialer: Dialer,
    command_timeout: Duration,
    lanes: Vec<Lane>,
    turn: AtomicUsize,
    breaker: Mutex<Breaker>,
    /// Whether anything was ever answered.
    used: AtomicBool,
    probe: Mutex<JoinSet<()>>,
}

/// Room for one connection, which is made when it is needed.
#[derive(Default)]
struct Lane {
    connection: Mutex<Option<Connection>>,
    /// Held by the one who makes it.
    dialing: tokio::sync::Mutex<()>,
}

impl Link {
    /// With room for so many connections.
    pub(super) fn new(dialer: Dialer, connections: usize, command_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            dialer,
            command_timeout,
            lanes: (0..connections.max(1)).map(|_| Lane::default()).collect(),
            turn: AtomicUsize::new(0),
            breaker: Mutex::default(),
            used: AtomicBool::new(false),
            probe: Mutex::default(),
        }))
    }

    /// Sends a command.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, StoreError> {
        let work = |mut wire: MultiplexedConnection| async move { command.query_async(&mut wire).await };
        Ok(self.send(work).await?.0)
    }

    /// Sends commands together, with one answer for each, and where they were answered. Others may be carried out between
    /// them; where one fails, the rest may have taken effect.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<(Vec<Value>, String), StoreError> {
        let work = |mut wire: MultiplexedConnection| async move { pipeline.query_async(&mut wire).await };
        let (answers, connection) = self.send(work).await?;
        Ok((answers, connection.host.to_string()))
    }

    /// Runs a script, as a whole: nothing comes between its steps.
    pub(super) async fn script(
        &self,
        script: &Script,
        keys: &[String],
        args: impl ToRedisArgs + Send,
    ) -> Result<Value, StoreError> {
        Ok(self.script_and_run(script, keys, args).await?.0)
    }

    /// [`Link::script`], with the id of the server's run that it ran in.
    pub(super) async fn script_and_run(
        &self,
        script: &Script,
        keys: &[String],
        args: impl ToRedisArgs + Send,
    ) -> Result<(Value, Arc<str>), StoreError> {
        self.script_in(None, script, keys, args).await
    }

    /// [`Link::script_and_run`], in no other run than this one.
    pub(super) async fn script_in(
        &self,
        run_id: Option<&str>,
        script: &Script,
        keys: &[String],
        args: impl ToRedisArgs + Send,
    ) -> Result<(Value, Arc<str>), StoreError> {
        let call = |how: &str, what: &str| {
            let mut call = redis::cmd(how);
            call.arg(what).arg(keys.len()).arg(keys).arg(&args);
            call
        };
        let (known, new) = (call("EVALSHA", script.name()), call("EVAL", script.source));
        let work = |mut wire: MultiplexedConnection| async move {
            match known.query_async(&mut wire).await {
                Err(error) if is_unknown_script(&error) => new.query_async(&mut wire).await,
                answer => answer,
            }
        };
        let (answer, connection) = self.send_in(run_id, work).await?;
        Ok((answer, connection.run_id))
    }

    /// Makes sure that the server that is asked still is the one that takes our commands: it says so itself, and those who tell
    /// where it is agree. Otherwise it is left, and the next call finds the right one.
    pub(super) async fn leads(&self) -> Result<(), StoreError> {
        let shared = &self.0;
        let lane = shared.lane()?;
        let connection = shared.connection(lane).await?;
        let limit = shared.dialer.connect_timeout;
        let leads = shared.dialer.leads(&connection);
        let led = within(&*shared.dialer.clock, limit, leads).await;
        match led.unwrap_or_else(|| Err(unavailable("nobody says in time where the store is".to_owned()))) {
            Ok(true) => Ok(()),
            Ok(false) => {
                shared.leave(&connection);
                let host = &connection.host;
                Err(unavailable(format!(
                    "the store at {host}: another one has taken its place"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what was asked last was answered, be it with no.
    pub(super) fn is_up(&self) -> bool {
        self.0.used.load(Ordering::Relaxed) && self.0.breaker().is_well()
    }

    /// How many connections there are, and how many there may be.
    pub(super) fn connections(&self) -> (usize, usize) {
        let lanes = &self.0.lanes;
        (
            lanes.iter().filter(|lane| lane.usable().is_some()).count(),
            lanes.len(),
        )
    }

    async fn send<T, F>(
        &self,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<(T, Connection), StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.send_in(None, work).await
    }

    async fn send_in<T, F>(
        &self,
        run_id: Option<&str>,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<(T, Connection), StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let shared = &self.0;
        let lane = shared.lane()?;
        let connection = shared.connection(lane).await?;
        if run_id.is_some_and(|run_id| run_id != &*connection.run_id) {
            return Err(unavailable(format!(
                "the store at {}: it is another one than before, or was started anew",
                connection.host
            )));
        }
        let work = work(connection.wire.clone());
        let (error, fate) = match within(&*shared.dialer.clock, shared.command_timeout, work).await {
            Some(Ok(answer)) => {
                shared.succeeded();
                return Ok((answer, connection));
            }
            Some(Err(error)) => judge(&connection.host.to_string(), &error),
            None => (
                unavailable(format!("the store at {}: no answer in time", connection.host)),
                Fate::Broken,
            ),
        };
        match fate {
            Fate::Kept => shared.succeeded(),
            Fate::Left => shared.leave(&connection),
            // It broke for all who use it, and that counts once.
            Fate::Broken if lane.leave(&connection) => shared.failed(&error),
            Fate::Broken => {}
        }
        Err(error)
    }
}

impl Shared {
    /// The lanes in turn.
    fn lane(&self) -> Result<&Lane, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let lane = turn
            .checked_rem(self.lanes.len())
            .and_then(|turn| self.lanes.get(turn));
        lane.ok_or_else(|| unavailable("the store may have no connections".to_owned()))
    }

    /// The lane's connection. Of those who need a new one, one makes it and the others wait, as long as they would for
    /// one of their own.
    async fn connection(self: &Arc<Self>, lane: &Lane) -> Result<Connection, StoreError> {
        self.breaker().pass()?;
        if let Some(connection) = lane.usable() {
            return Ok(connection);
        }
        let Dialer {
            clock,
            connect_timeout: limit,
            ..
        } = &self.dialer;
        let end = clock.steady() + *limit;
        // Whoever is before us began earlier, and ends before we would.
        let _turn = lane.dialing.lock().await;
        self.breaker().pass()?;
        if let Some(connection) = lane.usable() {
            return Ok(connection);
        }
        let left = end.since(clock.steady());
        if left < *limit / 10 {
            // It would hardly be enough, and that would say nothing of the server.
            return Err(unavailable(format!(
                "the store at {}: no connection in time",
                self.dialer.target
            )));
        }
        match self.dialer.connect(left).await {
            Ok(connection) => {
                self.arrived(&connection);
                lane.put(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Leaves all connections with the server at the other end of this one: it is not the right one any more.
    fn leave(&self, connection: &Connection) {
        for lane in &self.lanes {
            lane.lock().take_if(|other| other.host == connection.host);
        }
    }

    /// Leaves all connections with another run than this one is with: what is asked together must be asked of one server.
    fn arrived(&self, connection: &Connection) {
        for lane in &self.lanes {
            lane.lock().take_if(|other| other.run_id != connection.run_id);
        }
    }

    fn succeeded(&self) {
        self.used.store(true, Ordering::Relaxed);
        self.breaker().succeeded();
    }

    fn failed(self: &Arc<Self>, error: &StoreError) {
        if self.breaker().failed(error) {
            tracing::warn!(%error, "The store is not asked until it answers again");
            let mut probe = JoinSet::new();
            probe.spawn(try_again(Arc::downgrade(self), Arc::clone(&self.dialer.clock)));
            // The former one has ended, or is about to.
            *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = probe;
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing in it can be half-done.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries to connect until it succeeds, and closes the breaker then.
async fn try_again(link: Weak<Shared>, clock: Arc<dyn tokenward_core::Clock>) {
    for pause in pauses() {
        clock.sleep(pause).await;
        let Some(shared) = link.upgrade() else { return };
        match shared.dialer.connect(shared.dialer.connect_timeout).await {
            Ok(connection) => {
                tracing::info!(host = %connection.host, "The store answers again");
                shared.arrived(&connection);
                if let Some(lane) = shared.lanes.first() {
                    lane.put(connection);
                }
                shared.succeeded();
                return;
            }
            Err(error) => {
                shared.breaker().failed(&error);
            }
        }
    }
}

impl Lane {
    /// Its connection, if it has one that lives.
    fn usable(&self) -> Option<Connection> {
        self.lock().take_if(|connection| connection.driver.has_ended());
        self.lock().clone()
    }

    fn put(&self, connection: Connection) {
        *self.lock() = Some(connection);
    }

    /// Takes the connection out, unless another has taken its place. Those who wait for answers over it keep it until
    /// they have them. Nobody else gets it: an answer that comes late would be taken for that of a later question.
    fn leave(&self, connection: &Connection) -> bool {
        let same = |held: &mut Connection| Arc::ptr_eq(&held.driver, &connection.driver);
        self.lock().take_if(same).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // Nothing in it can be half-done.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}
