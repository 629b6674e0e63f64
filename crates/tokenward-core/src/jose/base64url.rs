//! base64url without padding (RFC 7515 section 2), in its one canonical spelling.
//!
//! Padding, other alphabets, blanks and non-zero unused bits are refused: two texts must never stand for one value.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// In no sum of four values.
const INVALID: u32 = 1 << 24;

/// What each character adds to the 24 bits of its four, by its place among them.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
static VALUES: [[u32; 256]; 4] = {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut values = [[INVALID; 256]; 4];
    let mut value = 0;
    while value < 64 {
        let character = ALPHABET[value] as usize;
        let mut place = 0;
        while place < 4 {
            values[place][character] = (value as u32) << (18 - 6 * place);
            place += 1;
        }
        value += 1;
    }
    values
};

/// Four characters as the 24 bits that they stand for, and more than those if one of them is no character of the alphabet.
#[inline]
#[expect(clippy::indexing_slicing, reason = "each has a place for every byte")]
fn join(characters: [u8; 4]) -> u32 {
    let [first, second, third, fourth] = &VALUES;
    let [a, b, c, d] = characters.map(usize::from);
    first[a] | second[b] | third[c] | fourth[d]
}

/// Every verification reads its whole token by this: it takes a quarter of the instructions of the decoder in the crate, which
/// is made for any alphabet.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (fours, rest) = text.as_chunks::<4>();
    let tail = match rest {
        [] => 0,
        [_] => return None,
        rest => rest.len() - 1,
    };
    let mut bytes = vec![0; fours.len() * 3 + tail];
    let (threes, end) = bytes.as_chunks_mut::<3>();
    let mut seen = 0;
    for (four, three) in fours.iter().zip(threes) {
        let joined = join(*four);
        seen |= joined;
        [_, three[0], three[1], three[2]] = joined.to_be_bytes();
    }
    let mut unused = 0;
    match (rest, end) {
        ([a, b], [first]) => {
            let joined = join([*a, *b, b'A', b'A']);
            [_, *first, _, _] = joined.to_be_bytes();
            (seen, unused) = (seen | joined, joined & 0xffff);
        }
        ([a, b, c], [first, second]) => {
            let joined = join([*a, *b, *c, b'A']);
            [_, *first, *second, _] = joined.to_be_bytes();
            (seen, unused) = (seen | joined, joined & 0xff);
        }
        _ => {}
    }
    (seen < INVALID && unused == 0).then_some(bytes)
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_spelling_decodes() {
        assert_eq!(decode(b"AQI").as_deref(), Some(&[1, 2][..]));
        for odd in [
            "AQI=",
            "AQ I",
            "AQI\n",
            "+/8",
            "A",
            "AQJ",
            "AR",
            "AQ?",
            "AQ.I",
            "AAAAA",
            "AAA\u{e9}",
        ] {
            assert_eq!(decode(odd.as_bytes()), None, "{odd:?}");
        }
    }

    #[test]
    fn each_byte_at_each_place_is_read_as_the_crate_reads_it() {
        for len in 0..=9 {
            for place in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'A'; len];
                    text[place] = byte;
                    assert_eq!(
                        decode(&text),
                        URL_SAFE_NO_PAD.decode(&text).ok(),
                        "{}",
                        text.escape_ascii()
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn any_text_is_read_as_the_crate_reads_it(text in "[A-Za-z0-9_=+/.-]{0,12}") {
            prop_assert_eq!(decode(text.as_bytes()), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }
}
