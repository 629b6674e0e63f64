//! What makes an RSA public key acceptable, and its encoding for the verifier.

use super::jwk::SkipReason;

/// Least modulus: RFC 7518 section 3.3.
const MIN_BITS: usize = 2048;
/// Greatest modulus: verification time grows with the square of it (CVE-2023-29409).
const MAX_BITS: usize = 8192;
/// Longest text of a modulus that is decoded at all, leading zeros included.
pub(super) const MAX_MODULUS_TEXT: usize = (MAX_BITS / 8 + 8).div_ceil(3) * 4;

/// A modulus and exponent within the limits, without leading zeros.
pub(super) struct PublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl PublicKey {
    /// Checks the numbers. Leading zero octets, which some issuers send against RFC 7518 section 6.3.1.1, are
    /// dropped first; the thumbprint is that of the shortest form.
    pub(super) fn new(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, SkipReason> {
        let key = Self {
            modulus: without_leading_zeros(modulus),
            exponent: without_leading_zeros(exponent),
        };
        let first = key.modulus.first().copied().unwrap_or(0);
        let bits = (key.modulus.len() * 8).saturating_sub(first.leading_zeros() as usize);
        if bits < MIN_BITS {
            return Err(SkipReason::RsaTooSmall);
        }
        if bits > MAX_BITS {
            return Err(SkipReason::RsaTooLarge);
        }
        if !is_odd(&key.modulus) {
            return Err(SkipReason::RsaModulus);
        }
        // Odd, at least 3 and below 2^33: 1 verifies everything, and a long one only costs time.
        let small = key.exponent.len() <= 5
            && key
                .exponent
                .iter()
                .fold(0_u64, |e, byte| e << 8 | u64::from(*byte))
                < 1 << 33;
        if !small || !is_odd(&key.exponent) || key.exponent == [1] {
            return Err(SkipReason::RsaExponent);
        }
        if has_roca_fingerprint(&key.modulus) {
            return Err(SkipReason::RsaRoca);
        }
        Ok(key)
    }

    /// Big-endian, as long as it has to be.
    pub(super) fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Likewise.
    pub(super) fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// The `RSAPublicKey` of RFC 8017 appendix A.1.1 in DER.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.modulus.len() + self.exponent.len() + 16);
        for number in [&self.modulus, &self.exponent] {
            // A leading zero keeps the number positive.
            let sign = usize::from(number.first().is_some_and(|byte| *byte >= 0x80));
            push_head(&mut body, 0x02, number.len() + sign);
            body.resize(body.len() + sign, 0);
            body.extend_from_slice(number);
        }
        let mut der = Vec::with_capacity(body.len() + 4);
        push_head(&mut der, 0x30, body.len());
        der.append(&mut body);
        der
    }
}

fn push_head(der: &mut Vec<u8>, tag: u8, len: usize) {
    der.push(tag);
    let [.., high, low] = len.to_be_bytes();
    match (high, low) {
        (0, 0..0x80) => der.push(low),
        (0, _) => der.extend_from_slice(&[0x81, low]),
        _ => der.extend_from_slice(&[0x82, high, low]),
    }
}

fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte & 1 == 1)
}

/// Whether the modulus was made by the faulty generator of CVE-2017-15361, whose primes can be computed from it.
///
/// That generator's primes are powers of 65537 modulo a product of small primes, so the modulus is one too,
/// modulo each of them. A random modulus passes all 36 tests with a probability below 2^-120.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 36] = [
        11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157, 3, 5, 7, 23, 29, 31, 41,
        43, 47, 59, 67, 83, 89, 101, 113, 131, 137, 139, 149,
    ];
    // One division of the long number for four primes: their product is below 2^32.
    PRIMES.chunks(4).all(|primes| {
        let residue = residue(modulus, primes.iter().product());
        primes
            .iter()
            .all(|prime| is_power_of_65537(residue % prime, *prime))
    })
}

/// The big-endian `number` modulo `divisor`.
fn residue(number: &[u8], divisor: u32) -> u32 {
    let divisor = u64::from(divisor);
    // From its end, so that only the first word may be a short one.
    let residue = number.rchunks(4).rev().fold(0, |residue, word| {
        let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        (residue << 32 | word) % divisor
    });
    // Below a divisor of 32 bits.
    u32::try_from(residue).unwrap_or_default()
}

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let mut power = 1;
    loop {
        if power == residue {
            return true;
        }
        power = power * (65537 % prime) % prime;
        if power == 1 {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 65537^128, a number of 2049 bits: what the faulty generator's moduli look like to the test.
    fn power_of_65537() -> Vec<u8> {
        let mut number = vec![1_u32];
        for _ in 0..128 {
            let mut carry = 0_u64;
            for limb in &mut number {
                let product = u64::from(*limb) * 65537 + carry;
                *limb = product as u32;
                carry = product >> 32;
            }
            if carry > 0 {
                number.push(carry as u32);
            }
        }
        number.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
    }

    fn reason(modulus: &[u8], exponent: &[u8]) -> Option<SkipReason> {
        PublicKey::new(modulus.to_vec(), exponent.to_vec()).err()
    }

    #[test]
    fn roca_moduli_are_recognised() {
        let modulus = power_of_65537();
        assert_eq!(reason(&modulus, &[1, 0, 1]), Some(SkipReason::RsaRoca));
        let mut other = modulus;
        *other.last_mut().unwrap() ^= 2;
        assert_eq!(reason(&other, &[1, 0, 1]), None);
    }

    #[test]
    fn residues_are_those_of_the_whole_number() {
        let number = power_of_65537();
        for divisor in [11_u32, 61, 149, 131 * 137 * 139 * 149] {
            for len in 0..=number.len() {
                let bytewise = number[..len].iter().fold(0, |residue, byte| {
                    (residue << 8 | u64::from(*byte)) % u64::from(divisor)
                });
                assert_eq!(u64::from(super::residue(&number[..len], divisor)), bytewise);
            }
        }
    }

    #[test]
    fn limits_hold_to_the_bit() {
        let e = [1, 0, 1];
        let sized = |bits: usize| {
            let mut modulus = vec![0xff; bits.div_ceil(8)];
            modulus[0] = 0xff >> (modulus.len() * 8 - bits);
            modulus
        };
        assert_eq!(reason(&sized(2047), &e), Some(SkipReason::RsaTooSmall));
        assert_eq!(reason(&sized(2048), &e), None);
        assert_eq!(reason(&sized(8192), &e), None);
        assert_eq!(reason(&sized(8193), &e), Some(SkipReason::RsaTooLarge));
        assert_eq!(reason(&[], &e), Some(SkipReason::RsaTooSmall));
        let mut even = sized(2048);
        even[255] = 0xfe;
        assert_eq!(reason(&even, &e), Some(SkipReason::RsaModulus));
    }

    #[test]
    fn exponents_are_odd_and_neither_one_nor_huge() {
        let modulus = [0xff; 256];
        for good in [&[3][..], &[1, 0, 1], &[0, 3], &[1, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(reason(&modulus, good), None, "{good:?}");
        }
        for bad in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 9]] {
            assert_eq!(reason(&modulus, bad), Some(SkipReason::RsaExponent), "{bad:?}");
        }
    }

    #[test]
    fn leading_zeros_are_dropped() {
        let mut modulus = vec![0; 3];
        modulus.extend([0xff; 256]);
        assert_eq!(PublicKey::new(modulus, vec![0, 3]).unwrap().modulus().len(), 256);
    }
}
