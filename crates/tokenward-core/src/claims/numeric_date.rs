//! `NumericDate` (RFC 7519 section 2).

use super::Claim;
use crate::Timestamp;

/// The first second after the year 9999: nothing honest lies beyond, and RFC 3339 cannot write it.
const END: i64 = 253_402_300_800;

/// A number of seconds since the epoch, from 0 to the end of the year 9999; fractions are kept to the millisecond.
pub(super) fn read(value: Claim<'_>) -> Option<Timestamp> {
    let Claim::Number(number) = value else {
        return None;
    };
    if let Some(secs) = number.as_i64() {
        return (0..END).contains(&secs).then(|| Timestamp::from_secs(secs));
    }
    let secs = number.as_f64()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "the end of the year 9999 is exact in a double"
    )]
    let in_range = (0.0..END as f64).contains(&secs);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked, and the fraction is to be dropped"
    )]
    in_range.then(|| Timestamp::from_millis((secs * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_in_range_are_times() {
        for (value, millis) in [
            (json!(0), 0),
            (json!(1_700_000_000), 1_700_000_000_000),
            (json!(1_700_000_000.25), 1_700_000_000_250),
            (json!(1.7e9), 1_700_000_000_000),
            (json!(-0.0), 0),
            (json!(253_402_300_799_u64), 253_402_300_799_000),
        ] {
            assert_eq!(
                read((&value).into()).map(Timestamp::as_millis),
                Some(millis),
                "{value}"
            );
        }
    }

    #[test]
    fn everything_else_is_not() {
        for value in [
            json!(-1),
            json!(-0.5),
            json!(253_402_300_800_u64),
            json!(9_223_372_036_854_775_808_u64),
            json!(1e300),
            json!("1700000000"),
            json!(true),
            json!(null),
            json!([1]),
            json!({}),
        ] {
            assert_eq!(read((&value).into()), None, "{value}");
        }
    }
}
