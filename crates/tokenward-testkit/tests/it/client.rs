//! The least of an HTTP client: HTTP/1.1 over any stream, one request on a connection.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::TokioIo;
use tokenward_testkit::IdpServer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

pub(crate) type Response = http::Response<hyper::body::Incoming>;

pub(crate) async fn get(server: &IdpServer, path: &str, headers: &[(&str, &str)]) -> hyper::Result<Response> {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    get_over(stream, path, headers).await
}

/// The connection ends with the response's body, or when the set that drives it is dropped.
pub(crate) async fn get_over<S>(stream: S, path: &str, headers: &[(&str, &str)]) -> hyper::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    tasks.detach_all();
    let mut request = http::Request::get(path).header("host", "idp.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
}

/// Any request without TLS, to wherever it is.
pub(crate) async fn ask(
    address: SocketAddr,
    request: http::request::Builder,
    body: &str,
) -> hyper::Result<Response> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    tasks.detach_all();
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    sender
        .send_request(request.header("host", "idp.test").body(body).unwrap())
        .await
}

pub(crate) async fn body(response: Response) -> hyper::Result<Bytes> {
    Ok(response.into_body().collect().await?.to_bytes())
}

pub(crate) async fn get_body(server: &IdpServer, path: &str) -> Bytes {
    body(get(server, path, &[]).await.unwrap()).await.unwrap()
}
