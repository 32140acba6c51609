//! Timestamps for people.

use oncelog_wire::Timestamp;

/// The moment in UTC, to the millisecond; `-` for none.
pub(crate) fn utc(timestamp: Timestamp) -> String {
    if timestamp < Timestamp(0) {
        return "-".into();
    }
    let (seconds, millis) = (timestamp.0 / 1000, timestamp.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that leap days come last (400 years have 146,097 days).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_printed_in_utc() {
        assert_eq!(utc(Timestamp(0)), "1970-01-01 00:00:00.000");
        assert_eq!(utc(Timestamp(1_700_000_000_123)), "2023-11-14 22:13:20.123");
        assert_eq!(utc(Timestamp(1_709_164_800_000)), "2024-02-29 00:00:00.000");
        assert_eq!(utc(Timestamp(951_782_399_999)), "2000-02-28 23:59:59.999");
        assert_eq!(utc(Timestamp(-1)), "-");
    }
}
