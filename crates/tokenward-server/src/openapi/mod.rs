//! The OpenAPI 3.1 document, made from the operations that are mounted.
//!
//! An operation of the admin API is declared once: the document and the route come from the same value. What other
//! modules mount is described in [`public`], and a test holds that against the routers.

mod oauth;
mod operation;
mod public;
mod tokens;

use operation::{CLIENT, CREDENTIAL};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub(crate) use operation::{Operation, Parameter, any_object};
pub(crate) use public::operations as public_operations;
pub(crate) use tokens::operations as token_operations;

/// The document of `operations`.
pub(crate) fn document(operations: impl IntoIterator<Item = Operation>) -> OpenApi {
    let info = InfoBuilder::new()
        .title("tokenward")
        .description(Some(
            "Keys and statuses on the public listener, administration on the admin listener, tokens on both. Errors are \
             problem documents (RFC 9457) with a stable `error_code`.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(
            LicenseBuilder::new()
                .name("MIT OR Apache-2.0")
                .identifier(Some("MIT OR Apache-2.0"))
                .build(),
        ));
    let credential = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The secret of one of the configured `credentials`."))
        .build();
    let client = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some(
            "The name of one of the configured `credentials`, and its secret.",
        ))
        .build();
    let mut components = ComponentsBuilder::new()
        .security_scheme(CREDENTIAL, SecurityScheme::Http(credential))
        .security_scheme(CLIENT, SecurityScheme::Http(client));
    let mut paths = PathsBuilder::new();
    for operation in operations {
        for (name, schema) in operation.schemas() {
            components = components.schema(name, schema);
        }
        let (path, item) = operation.into_item();
        paths = paths.path(path, item);
    }
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}
