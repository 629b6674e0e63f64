//! A master, a replica of it, and three sentinels.

use std::fs;

use super::{
    server::{Program, RedisServer, TLS_WITH_ALL},
    until,
};
use crate::{Leaf, TestPki};

/// What the sentinels call the master.
const NAME: &str = "main";

/// Two servers, of which one is the master, and three sentinels, which make the other one the master where it is gone for
/// half a second.
#[derive(Debug)]
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    password: Option<String>,
    over_tls: bool,
}

impl Sentinels {
    /// With a password for the servers and one for the sentinels, which is the same, or without.
    ///
    /// # Panics
    ///
    /// If they do not start, or do not find each other in twenty seconds.
    #[must_use]
    pub fn start(password: Option<&str>) -> Self {
        Self::set_up(password, None)
    }

    /// The same, where all speak TLS with each other, and are spoken with so.
    ///
    /// # Panics
    ///
    /// As [`Sentinels::start`].
    #[must_use]
    pub fn over_tls(pki: &TestPki, password: Option<&str>) -> Self {
        Self::set_up(password, Some(pki))
    }

    fn set_up(password: Option<&str>, pki: Option<&TestPki>) -> Self {
        let secret = |option: &str| match password {
            Some(password) => vec![option.to_owned(), password.to_owned()],
            None => Vec::new(),
        };
        let server = |more: &[String]| {
            let arguments: Vec<String> = [
                secret("--requirepass").as_slice(),
                secret("--masterauth").as_slice(),
                &["--repl-diskless-sync-delay", "0"].map(str::to_owned),
                more,
            ]
            .concat();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match pki {
                Some(pki) => {
                    let arguments = [arguments.as_slice(), &TLS_WITH_ALL].concat();
                    RedisServer::with_tls(pki, Leaf::Good, &arguments)
                }
                None => RedisServer::with(Program::Redis, &arguments),
            }
        };
        let master = server(&[]);
        let port = match pki {
            Some(_) => master.tls_port(),
            None => master.port(),
        };
        let replica = server(&["--replicaof".to_owned(), format!("127.0.0.1 {port}")]);
        until("the replica follows", || {
            replica
                .text(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        let sentinels = (0..3)
            .map(|_| {
                RedisServer::sentinel(password, pki, |file| {
                    let mut text = format!("sentinel monitor {NAME} 127.0.0.1 {port} 2\n");
                    text += &format!("sentinel down-after-milliseconds {NAME} 500\n");
                    text += &format!("sentinel failover-timeout {NAME} 2000\n");
                    if let Some(password) = password {
                        text += &format!(
                            "sentinel auth-pass {NAME} {password}\nsentinel sentinel-pass {password}\n"
                        );
                    }
                    fs::write(file, text).expect("a file can be written");
                })
            })
            .collect();
        let all = Self {
            servers: [master, replica],
            sentinels,
            password: password.map(str::to_owned),
            over_tls: pki.is_some(),
        };
        for sentinel in &all.sentinels {
            until("the sentinels know each other", || {
                let known = sentinel.text(&["SENTINEL", "master", NAME]);
                known.contains("num-slaves\n1") && known.contains("num-other-sentinels\n2")
            });
        }
        all
    }

    /// Where a store finds the master by them.
    #[must_use]
    pub fn url(&self) -> String {
        let who = self.password.as_ref().map(|password| format!(":{password}@"));
        let (scheme, port): (_, fn(&RedisServer) -> u16) = match self.over_tls {
            true => ("rediss", RedisServer::tls_port),
            false => ("redis", RedisServer::port),
        };
        let hosts: Vec<String> = (self.sentinels.iter())
            .map(|sentinel| format!("127.0.0.1:{}", port(sentinel)))
            .collect();
        format!(
            "{scheme}+sentinel://{}{}/{NAME}",
            who.unwrap_or_default(),
            hosts.join(",")
        )
    }

    /// The servers, the first master first.
    pub fn servers(&mut self) -> &mut [RedisServer; 2] {
        &mut self.servers
    }

    /// The sentinels.
    pub fn sentinels(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }

    /// Waits until the second server is the master.
    ///
    /// # Panics
    ///
    /// If it is not in twenty seconds.
    pub fn until_failed_over(&self) {
        let [_, second] = &self.servers;
        // The sentinel ends its connections then, ours too.
        until("the replica is the master", || {
            let info = second.try_ask(&["INFO", "replication"]);
            let info = info.and_then(|info| Ok(redis::from_redis_value::<String>(info)?));
            info.is_ok_and(|info| info.contains("role:master"))
        });
    }
}
