//! What a [`TokenLayer`](crate::TokenLayer) found out, as axum extractors.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{Response, request::Parts},
};
use serde::de::DeserializeOwned;
use tokenward_core::{Denial, claims::Actor, dpop::Proof};

use crate::{respond, verifier::VerifiedToken};

/// The verified token of a request behind a [`TokenLayer`](crate::TokenLayer). Without the layer it answers
/// 401 `token_missing`, so that a forgotten layer never lets a request through. `Option<Token>` is none there, and
/// where a request without a token was let through.
#[derive(Clone, Debug)]
pub struct Token(pub Arc<VerifiedToken>);

/// The claims as a type of yours: those that [`TokenLayer::claims`](crate::TokenLayer::claims) has read and checked, or
/// read here, unchecked, where it was not told that type. Where they do not fit it answers 401 `claim_rejected`.
#[derive(Debug)]
pub struct TokenClaims<T>(pub Arc<T>);

/// Who acts for the subject, the current one first, then those before it (RFC 8693 section 4.1); empty where nobody does.
/// Where the claim is malformed it answers 401 `claim_rejected`.
#[derive(Clone, Debug)]
pub struct Actors(pub Vec<Actor>);

/// The proof of possession that the request came with. Where it needed none it answers 401 `dpop_missing`;
/// `Option<Proven>` is none there.
#[derive(Clone, Debug)]
pub struct Proven(pub Arc<Proof>);

fn refused(denial: Denial) -> Response<Body> {
    respond::denial(denial).map(Body::from)
}

fn token(parts: &Parts) -> Option<Token> {
    parts.extensions.get::<Arc<VerifiedToken>>().cloned().map(Token)
}

fn proof(parts: &Parts) -> Option<Proven> {
    parts.extensions.get::<Arc<Proof>>().cloned().map(Proven)
}

impl<S: Sync> FromRequestParts<S> for Token {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        token(parts).ok_or_else(|| refused(Denial::TokenMissing))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Token {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(token(parts))
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static, S: Sync> FromRequestParts<S> for TokenClaims<T> {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        if let Some(claims) = parts.extensions.get::<Arc<T>>() {
            return Ok(Self(Arc::clone(claims)));
        }
        let Token(token) = token(parts).ok_or_else(|| refused(Denial::TokenMissing))?;
        token
            .deserialize()
            .map(|claims| Self(Arc::new(claims)))
            .map_err(refused)
    }
}

impl<S: Sync> FromRequestParts<S> for Actors {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let Token(token) = token(parts).ok_or_else(|| refused(Denial::TokenMissing))?;
        token.claims().actors().map(Self).map_err(refused)
    }
}

impl<S: Sync> FromRequestParts<S> for Proven {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        proof(parts).ok_or_else(|| refused(Denial::DpopMissing))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Proven {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(proof(parts))
    }
}
