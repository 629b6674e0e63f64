//! Who tells where the master is: sentinels, and the nodes of a cluster.

use redis::{RedisConnectionInfo, Value};

use super::{
    address::{Host, Topology},
    dial::{Dialer, answered},
};
use crate::{StoreError, StoreErrorKind};

impl Dialer {
    /// What `guide` thinks is the master that takes our commands.
    pub(super) async fn pointed(&self, guide: &Host) -> Result<Host, StoreError> {
        match &self.target.topology {
            Topology::Standalone(host) => Ok(host.clone()),
            Topology::Sentinel { master, .. } => self.of_sentinel(guide, master).await,
            Topology::Cluster(_) => self.of_cluster(guide).await,
        }
    }

    async fn of_sentinel(&self, guide: &Host, master: &str) -> Result<Host, StoreError> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(master);
        // One that asks for a password is told that of the servers; the others need not know it.
        let (mut wire, _driver) = self.open(guide, RedisConnectionInfo::default()).await?;
        let mut answer: Result<Value, _> = question.query_async(&mut wire).await;
        if let Err(error) = &answer
            && error.code() == Some("NOAUTH")
        {
            let (mut wire, _driver) = self.open(guide, self.user()).await?;
            answer = question.query_async(&mut wire).await;
        }
        match redis::from_redis_value::<Option<(String, u16)>>(answered(guide, answer)?) {
            Ok(Some((name, port))) => Ok(Host { name, port }),
            _ => Err(lost(guide, &format!("knows no master called {master}"))),
        }
    }

    async fn of_cluster(&self, guide: &Host) -> Result<Host, StoreError> {
        let (mut wire, _driver) = self.open(guide, self.user()).await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("KEYSLOT").arg(&self.meta);
        questions.cmd("CLUSTER").arg("SLOTS");
        let answer = questions.query_async(&mut wire).await;
        let (slot, ranges): (u16, Vec<Vec<Value>>) = answered(guide, answer)?;
        // Each range is its first slot, its last, its master and the replicas of that.
        let master = ranges.into_iter().find_map(|range| {
            let mut range = range.into_iter();
            let first: u16 = redis::from_redis_value(range.next()?).ok()?;
            let last: u16 = redis::from_redis_value(range.next()?).ok()?;
            let Value::Array(master) = range.next()? else {
                return None;
            };
            (first..=last).contains(&slot).then_some(master)
        });
        let mut master = master.into_iter().flatten();
        let (name, port) = (master.next(), master.next());
        let port = port.and_then(|port| redis::from_redis_value(port).ok());
        let name: Option<String> = name.and_then(|name| redis::from_redis_value(name).ok());
        match port {
            // A node that does not know how others reach it leaves its name out.
            Some(port) => Ok(Host {
                name: name
                    .filter(|name| !["", "?"].contains(&name.as_str()))
                    .unwrap_or_else(|| guide.name.clone()),
                port,
            }),
            None => Err(lost(guide, "knows no node that has our keys")),
        }
    }
}

fn lost(guide: &Host, what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("the store's {guide} {what}"))
}
