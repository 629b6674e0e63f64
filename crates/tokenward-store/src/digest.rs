//! The digest that tells a damaged row, or names something whatever its name is.

use aws_lc_rs::digest::{self, SHA256};

pub(crate) type Digest = [u8; 32];

/// SHA-256 over the values of a row, each behind its length so that no byte can move from one to the next.
pub(crate) fn digest(values: &[Option<&[u8]>]) -> Digest {
    // Put together first: a start checks very many rows, and each call of the library costs more than a value.
    let lengths = values
        .iter()
        .map(|value| size_of::<u64>() + value.map_or(0, <[u8]>::len));
    let mut bytes = Vec::with_capacity(lengths.sum());
    for value in values {
        // No value is as long as that.
        let length = value.map_or(u64::MAX, |bytes| bytes.len() as u64);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value.unwrap_or_default());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(digest::digest(&SHA256, &bytes).as_ref());
    digest
}
