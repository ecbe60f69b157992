use proptest::prelude::*;

use super::*;

fn record(number: u8, backend: &str, away: Option<&str>) -> Record {
    Record {
        id: Id([number; 16]),
        backend: backend.into(),
        away: away.map(Into::into),
        since: u64::from(number) * 1000,
        seen: u64::from(number) * 1001,
        live: 0,
        pinned: number % 2 == 1,
    }
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut encoder = Encoder::new(42, 7);
    records.iter().for_each(|record| encoder.push(record));
    encoder.finish()
}

#[test]
fn what_is_written_is_read() {
    let records = [
        record(1, "mq1", None),
        record(2, "mqüü2", Some("mq1")),
        record(3, "mq1", Some("mq3")),
    ];
    let snapshot = decode(&encode(&records)).expect("whole");
    assert_eq!(
        snapshot,
        Snapshot {
            fingerprint: 42,
            taken: 7,
            records: records.to_vec()
        }
    );
    assert!(decode(&encode(&[])).expect("whole").records.is_empty());
}

#[test]
fn connections_are_not_written() {
    let living = Record {
        live: 3,
        ..record(1, "mq1", None)
    };
    assert_eq!(
        decode(&encode(&[living])).expect("whole").records[0].live,
        0
    );
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let good = encode(&[record(1, "mq1", None)]);
    assert_eq!(decode(b"hello"), Err(Damage::Foreign));
    assert_eq!(decode(b"SFSTICKY"), Err(Damage::Shape));
    assert_eq!(decode(b"SFSTICKY\x02"), Err(Damage::Version(2)));
    assert_eq!(decode(&good[..good.len() - 1]), Err(Damage::Checksum));
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    assert_eq!(decode(&flipped), Err(Damage::Checksum));
}

#[test]
fn counts_that_lie_under_a_good_checksum_are_an_error() {
    for (at_end, value) in [
        (20, u64::MAX),
        (20, 2),
        (20, 0),
        (12, 0x0000_0000_ffff_ffff),
    ] {
        let mut bytes = encode(&[record(1, "mq1", None)]);
        let at = bytes.len() - at_end;
        if at_end == 20 {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        } else {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
        }
        let end = bytes.len() - 8;
        let sum = checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Damage::Shape), "{at_end} {value}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
        let mut dressed = MAGIC.to_vec();
        dressed.push(VERSION);
        dressed.extend(&bytes);
        let sum = checksum(&dressed);
        dressed.extend(sum.to_le_bytes());
        let _ = decode(&dressed);
    }

    #[test]
    fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = encode(&[record(1, "mq1", None), record(2, "mq2", Some("mq1"))]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(decode(&bytes).is_err());
    }
}
