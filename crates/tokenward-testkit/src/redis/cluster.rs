//! Three masters, and a replica of the one that has a test's keys.

use super::{
    server::{Program, RedisServer, free_port},
    until,
};

/// A cluster of three masters that share the slots, and one replica, of the master that has the slot of a key. A master that
/// is gone for half a second is replaced.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    slot: String,
    owner: usize,
}

impl RedisCluster {
    /// A cluster whose replica is that of the master which has `key`.
    ///
    /// # Panics
    ///
    /// If the nodes do not start, or do not agree in twenty seconds.
    #[must_use]
    pub fn start(program: Program, key: &str) -> Self {
        let buses: Vec<String> = (0..4).map(|_| free_port().to_string()).collect();
        let nodes: Vec<RedisServer> = (buses.iter())
            .map(|bus| {
                let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500"];
                let more = ["--repl-diskless-sync-delay", "0", "--cluster-port", bus];
                RedisServer::with(program, &[settings.as_slice(), &more].concat())
            })
            .collect();
        let [first, second, third, spare] = nodes.as_slice() else {
            panic!("four nodes")
        };
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for (node, (from, to)) in nodes.iter().zip(slots) {
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", from, to]);
        }
        for (node, bus) in nodes.iter().zip(&buses) {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus]);
        }
        let slot = first.text(&["CLUSTER", "KEYSLOT", key]);
        let number: u16 = slot.parse().expect("a slot is a number");
        let owner = usize::from(number / 5461);
        let owners = [first, second, third];
        let id = owners
            .get(owner)
            .expect("a master has it")
            .text(&["CLUSTER", "MYID"]);
        until("the spare node knows its master", || {
            spare.try_ask(&["CLUSTER", "REPLICATE", &id]).is_ok()
        });
        for node in &nodes {
            until("the nodes agree", || {
                let known = node.text(&["CLUSTER", "NODES"]);
                node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && known.lines().filter(|line| line.contains("master -")).count() == 3
                    && known.lines().filter(|line| line.contains("slave")).count() == 1
            });
        }
        until("the replica follows", || {
            spare
                .text(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        Self { nodes, slot, owner }
    }

    /// Where a store finds it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = (self.nodes.iter())
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The master that had the key at first.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn owner(&mut self) -> &mut RedisServer {
        self.nodes.get_mut(self.owner).expect("a master has it")
    }

    /// The replica of it.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn spare(&self) -> &RedisServer {
        self.nodes.last().expect("four nodes")
    }

    /// Moves the key's slot, with its keys, to another master, which it returns.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn move_slot(&mut self) -> &RedisServer {
        let slot = self.slot.as_str();
        let new = (self.owner + 1) % 3;
        let node = |index: usize| self.nodes.get(index).expect("a master");
        let (from, to) = (node(self.owner), node(new));
        let (from_id, to_id) = (from.text(&["CLUSTER", "MYID"]), to.text(&["CLUSTER", "MYID"]));
        to.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]);
        from.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]);
        let port = to.port().to_string();
        for key in from.text(&["CLUSTER", "GETKEYSINSLOT", slot, "1000"]).lines() {
            from.ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for node in [to, from] {
            node.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
        }
        self.owner = new;
        node(new)
    }
}
