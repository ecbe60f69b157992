use proptest::prelude::*;

use super::*;

/// A packet with this first byte and remaining length.
fn packet(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    crate::mqtt::put_var_int(&mut bytes, length as u32);
    bytes.resize(bytes.len() + length, 0xAA);
    bytes
}

fn follow(tracker: &mut Tracker, bytes: &[u8]) -> Result<Vec<u8>, FramingError> {
    let mut packets = Vec::new();
    tracker.advance(bytes, |first| packets.push(first))?;
    Ok(packets)
}

#[test]
fn whole_packets_in_one_buffer_are_each_reported() {
    let mut tracker = Tracker::new();
    let stream = [
        packet(0x30, 10),
        packet(0xC0, 0),
        packet(0x32, 300),
        packet(0x40, 2),
    ]
    .concat();
    assert_eq!(
        follow(&mut tracker, &stream),
        Ok(vec![0x30, 0xC0, 0x32, 0x40])
    );
    assert_eq!(tracker, Tracker::new());
}

#[test]
fn a_disconnect_counts_when_its_last_byte_was_seen() {
    let mut tracker = Tracker::new();
    let disconnect = packet(DISCONNECT, 4);
    assert_eq!(follow(&mut tracker, &disconnect[..5]), Ok(vec![]));
    assert!(!tracker.at_boundary());
    assert_eq!(follow(&mut tracker, &disconnect[5..]), Ok(vec![DISCONNECT]));
    assert!(tracker.at_boundary());
}

#[test]
fn a_first_byte_alone_is_no_boundary() {
    let mut tracker = Tracker::new();
    assert_eq!(follow(&mut tracker, &[0xC0]), Ok(vec![]));
    assert!(!tracker.at_boundary());
    assert_eq!(follow(&mut tracker, &[0]), Ok(vec![0xC0]));
    assert!(tracker.at_boundary());
}

#[test]
fn a_large_packet_is_skipped_by_its_length() {
    let mut tracker = Tracker::new();
    assert_eq!(follow(&mut tracker, b"\x30\xFF\xFF\xFF\x7F"), Ok(vec![]));
    let block = vec![0; 1 << 20];
    for _ in 0..255 {
        assert_eq!(follow(&mut tracker, &block), Ok(vec![]));
    }
    assert_eq!(follow(&mut tracker, &block[1..]), Ok(vec![0x30]));
    assert!(tracker.at_boundary());
}

#[test]
fn a_fifth_length_byte_is_reported_once_and_ends_the_tracking() {
    for cut in 0..=5 {
        let mut tracker = Tracker::new();
        let bad = b"\x30\xFF\xFF\xFF\xFF\x01\xC0\x00";
        let answers = [&bad[..cut], &bad[cut..]].map(|part| follow(&mut tracker, part));
        let errors = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(errors, 1, "cut at {cut}: {answers:?}");
        assert!(answers.contains(&Err(FramingError { first: 0x30 })));
        assert!(tracker.is_off() && !tracker.at_boundary());
        assert_eq!(follow(&mut tracker, b"\xC0\x00"), Ok(vec![]));
    }
}

#[test]
fn a_number_that_no_tracker_gives_makes_no_tracker() {
    for bad in [
        1,
        7 << 40,
        1 << 48,
        2 << 40 | 0x80,
        5 << 40,
        5 << 40 | 0x1000_0000,
        u64::MAX,
    ] {
        assert_eq!(Tracker::from_bits(bad), None, "{bad:#x}");
    }
}

/// One byte at a time, with the whole packet in view: slow and plain.
fn reference(stream: &[u8]) -> (Vec<u8>, bool, bool) {
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let (mut length, mut used) = (0, 0);
        loop {
            let Some(byte) = stream.get(at + 1 + used) else {
                return (packets, false, false);
            };
            length += usize::from(byte % 128) * 128_usize.pow(used as u32);
            used += 1;
            if *byte < 128 {
                break;
            }
            if used == 4 {
                return (packets, false, true);
            }
        }
        if at + 1 + used + length > stream.len() {
            return (packets, false, false);
        }
        packets.push(stream[at]);
        at += 1 + used + length;
    }
    (packets, true, false)
}

/// Feeds `stream` in pieces that end at `cuts`, and carries the tracker through its number between them.
fn in_pieces(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, bool, bool) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let (mut tracker, mut packets, mut at, mut failed) = (Tracker::new(), Vec::new(), 0, false);
    for cut in cuts {
        let answer = tracker.advance(&stream[at..cut], |first| packets.push(first));
        failed |= answer.is_err();
        tracker = Tracker::from_bits(tracker.to_bits()).expect("its own number");
        at = cut;
    }
    assert_eq!(failed, tracker.is_off());
    (packets, tracker.at_boundary(), failed)
}

proptest! {
    #[test]
    fn valid_streams_are_followed_over_any_cuts(
        packets in prop::collection::vec((any::<u8>(), prop_oneof![0..4_usize, 100..200_usize, 16_000..17_000_usize]), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        end in any::<usize>(),
    ) {
        let stream = packets.iter().map(|(first, length)| packet(*first, *length)).collect::<Vec<_>>().concat();
        let stream = &stream[..stream.len() - end % (stream.len() + 1).min(300)];
        prop_assert_eq!(in_pieces(stream, &cuts), reference(stream));
    }

    #[test]
    fn random_bytes_are_followed_as_the_reference_does(
        stream in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..600),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(in_pieces(&stream, &cuts), reference(&stream));
    }
}
