//! Allows everything without looking, on the program's own listeners: what the rest of the program costs is what it costs
//! more than this. Benchmarks start it.
//!
//! `always_ok HTTP GRPC` serves on two addresses; by HTTP, `/rs256-verify` and `/es256-sign` do that one operation before they answer.
//! `always_ok rs256-verify` and `always_ok es256-sign` print what it costs over and over, in microseconds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

use std::{
    convert::Infallible, error::Error, future::ready, hint::black_box, net::SocketAddr, sync::Arc,
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use axum::{
    Router,
    extract::Request,
    routing::{get, post},
};
use http::StatusCode;
use rustix::time::{ClockId, clock_gettime};
use tokenward_server::bench::{Spoken, serve};
use tonic::{Response, Status, server::Grpc};
use tonic_prost::ProstCodec;

/// As long as the signed part of a token.
const MESSAGE: [u8; 500] = [b'a'; 500];

/// `envoy.service.auth.v3.CheckRequest`, of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {}

/// `envoy.service.auth.v3.CheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    /// `google.rpc.Status`, whose code 0 is left out.
    #[prost(message, optional, tag = "1")]
    status: Option<Empty>,
    /// `OkHttpResponse`.
    #[prost(message, optional, tag = "3")]
    ok: Option<Empty>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rs256-verify"] => println!("{:.3}", each(rs256_verify()?)),
        ["es256-sign"] => println!("{:.3}", each(es256_sign()?)),
        [http, grpc] => allow(http.parse()?, grpc.parse()?).await?,
        _ => eprintln!("usage: always_ok HTTP GRPC | rs256-verify | es256-sign"),
    }
    Ok(())
}

async fn allow(http: SocketAddr, grpc: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (verify, sign) = (rs256_verify()?, es256_sign()?);
    let plain = Router::new()
        .route("/rs256-verify", get(move || ready(answer(verify()))))
        .route("/es256-sign", get(move || ready(answer(sign()))))
        .fallback(|| ready(StatusCode::OK));
    let calls = Router::new().route("/envoy.service.auth.v3.Authorization/Check", post(check));
    tokio::try_join!(
        serve(http, Spoken::Http1, plain),
        serve(grpc, Spoken::Http2, calls)
    )?;
    Ok(())
}

async fn check(request: Request) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let codec = ProstCodec::<CheckResponse, CheckRequest>::default();
    Ok(Grpc::new(codec).unary(Allow, request).await)
}

struct Allow;

impl tonic::server::UnaryService<CheckRequest> for Allow {
    type Response = CheckResponse;
    type Future = std::future::Ready<Result<Response<CheckResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<CheckRequest>) -> Self::Future {
        ready(Ok(Response::new(CheckResponse {
            status: Some(Empty {}),
            ok: Some(Empty {}),
        })))
    }
}

const fn answer(done: bool) -> StatusCode {
    if done {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

fn rs256_verify() -> Result<impl Fn() -> bool + Clone + Send + Sync + 'static, Box<dyn Error>> {
    let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &MESSAGE, &mut signature)?;
    let public = key.public_key().as_ref();
    let public = Arc::new(ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)?);
    Ok(move || black_box(public.verify_sig(black_box(&MESSAGE), &signature)).is_ok())
}

fn es256_sign() -> Result<impl Fn() -> bool + Clone + Send + Sync + 'static, Box<dyn Error>> {
    let key = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?);
    let random = SystemRandom::new();
    Ok(move || black_box(key.sign(&random, black_box(&MESSAGE))).is_ok())
}

/// Microseconds of this thread's processor time for one call, the median of five rounds.
fn each(call: impl Fn() -> bool) -> f64 {
    const CALLS: u32 = 5_000;
    let mut rounds: Vec<f64> = (0..6)
        .map(|_| {
            let before = used();
            assert!((0..CALLS).all(|_| call()), "the operation fails");
            (used() - before).as_secs_f64() * 1e6 / f64::from(CALLS)
        })
        .skip(1)
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(2).copied().unwrap_or(f64::NAN)
}

fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
