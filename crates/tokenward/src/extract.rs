//! The verified token as an axum extractor.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{Response, request::Parts},
};
use tokenward_core::Denial;

use crate::{respond, verifier::VerifiedToken};

/// The verified token of a request behind a [`TokenLayer`](crate::TokenLayer). Without the layer it answers
/// 401 `token_missing`, so that a forgotten layer never lets a request through.
#[derive(Clone, Debug)]
pub struct Token(pub Arc<VerifiedToken>);

impl<S: Sync> FromRequestParts<S> for Token {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let token = parts.extensions.get::<Arc<VerifiedToken>>().cloned();
        token
            .map(Self)
            .ok_or_else(|| respond::denial(Denial::TokenMissing).map(Body::from))
    }
}
