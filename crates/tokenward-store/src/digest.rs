//! The digest that tells a damaged row, or names something whatever its name is.

use aws_lc_rs::digest::{Context, SHA256};

pub(crate) type Digest = [u8; 32];

/// SHA-256 over the values of a row, each behind its length so that no byte can move from one to the next.
pub(crate) fn digest(values: &[Option<&[u8]>]) -> Digest {
    let mut context = Context::new(&SHA256);
    for value in values {
        // No value is as long as that.
        let length = value.map_or(u64::MAX, |bytes| bytes.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(value.unwrap_or_default());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
