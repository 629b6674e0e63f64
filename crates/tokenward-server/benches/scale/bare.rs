//! The least that fetching all key sets costs: a connection, a request and an answer for each, and nothing done with it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokenward_testkit::bench::Instant;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

use crate::{keys::KeyServer, keys::path};

/// As many as the program has in the air at once by default.
pub(crate) const CONCURRENCY: usize = tokenward::DEFAULT_MAX_CONCURRENT_FETCHES;

/// Fetches the sets of the first `n` providers, each over a connection of its own as they would be on hosts of
/// their own, and says how long that took.
pub(crate) async fn fetch_all(server: &KeyServer, n: usize) -> Duration {
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let began = Instant::now();
    let mut fetches = JoinSet::new();
    for idp in 0..n {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let address = server.address(idp);
        fetches.spawn(async move {
            let _place = place;
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .unwrap();
            let request = Request::get(path(idp))
                .header("host", address.to_string())
                .header("connection", "close")
                .body(Empty::<Bytes>::new())
                .unwrap();
            let ask = async {
                let answer = requests.send_request(request).await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.unwrap().to_bytes().len()
            };
            let (read, _) = tokio::join!(ask, connection);
            assert!(read > 500);
        });
        while fetches.try_join_next().is_some_and(|fetch| fetch.is_ok()) {}
    }
    for fetch in fetches.join_all().await {
        let () = fetch;
    }
    began.elapsed()
}
