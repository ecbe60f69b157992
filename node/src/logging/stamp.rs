//! Times as the logs write them.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;

/// RFC 3339 in UTC with milliseconds: `2026-11-21T10:15:02.114Z`.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    PRINTER.timestamp_to_string(&timestamp(at))
}

/// Of syslog (RFC 3164, section 4.1.2), in the zone of the machine: `Nov 21 10:15:02`.
#[must_use]
pub fn rfc3164(at: SystemTime, zone: &TimeZone) -> String {
    format(at, zone, "%b %e %H:%M:%S")
}

/// Of HAProxy's `%t`: `21/Nov/2026:10:15:02.114`.
#[must_use]
pub fn haproxy(at: SystemTime, zone: &TimeZone) -> String {
    format(at, zone, "%d/%b/%Y:%H:%M:%S.%3f")
}

/// Of the Common Log Format, NGINX's `$time_local`: `21/Nov/2026:10:15:02 +0000`.
#[must_use]
pub fn common_log(at: SystemTime, zone: &TimeZone) -> String {
    format(at, zone, "%d/%b/%Y:%H:%M:%S %z")
}

fn format(at: SystemTime, zone: &TimeZone, format: &str) -> String {
    timestamp(at)
        .to_zoned(zone.clone())
        .strftime(format)
        .to_string()
}

/// A time beyond the calendar (the clock is wrong by ten thousand years) is shown as its beginning.
fn timestamp(at: SystemTime) -> Timestamp {
    Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn each_log_has_its_own_way_to_write_the_time() {
        let time = at(1_795_256_102_114);
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(rfc3339(time), "2026-11-21T10:15:02.114Z");
        assert_eq!(rfc3164(time, &zone), "Nov 21 11:15:02");
        assert_eq!(haproxy(time, &zone), "21/Nov/2026:11:15:02.114");
        assert_eq!(common_log(time, &zone), "21/Nov/2026:11:15:02 +0100");
    }

    #[test]
    fn small_numbers_keep_their_width() {
        let time = at(1_767_589_445_007);
        assert_eq!(rfc3339(time), "2026-01-05T05:04:05.007Z");
        assert_eq!(rfc3164(time, &TimeZone::UTC), "Jan  5 05:04:05");
        assert_eq!(haproxy(time, &TimeZone::UTC), "05/Jan/2026:05:04:05.007");
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00.000Z");
    }
}
