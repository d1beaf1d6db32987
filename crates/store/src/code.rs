//! How counts are written in the series: what is 0 is left out, numbers take as many bytes as they need, and 15-second
//! counts say how they differ from the ones before.
//!
//! ```text
//! counts := mask values          a bit of the mask for each number that is not 0, then those numbers
//! slots  := (gap shape values)*  gap: slots since the one before, from 1; shape: 0 if the same numbers are set as
//!                                before, which then come as differences (zigzag), else the mask
//! ```
//! Numbers are LEB128. Numbers have places such that the ones which are usually set come first, and the mask is short.

use kernel::metrics::LATENCY_BOUNDS_US;
use kernel::tally::Counts;

/// Numbers in counts: classes, the sum of times, buckets, second tries.
const FIELDS: usize = 6 + 1 + LATENCY_BOUNDS_US.len() + 1 + 1;

type Numbers = [u64; FIELDS];

fn numbers(counts: &Counts) -> Numbers {
    let mut n = [0; FIELDS];
    let [c1, c2, c3, c4, c5, none] = counts.by_class;
    let buckets = counts.latency.buckets.len();
    (n[0], n[1]) = (c2, counts.latency.sum_us);
    n[2..2 + buckets].copy_from_slice(&counts.latency.buckets);
    n[2 + buckets..].copy_from_slice(&[c4, c5, none, c3, c1, counts.second_tries]);
    n
}

fn counts(n: &Numbers) -> Counts {
    let mut counts = Counts::default();
    let buckets = counts.latency.buckets.len();
    counts.latency.buckets.copy_from_slice(&n[2..2 + buckets]);
    counts.latency.sum_us = n[1];
    let [c4, c5, none, c3, c1, second] = std::array::from_fn(|i| n[2 + buckets + i]);
    counts.by_class = [c1, n[0], c3, c4, c5, none];
    counts.second_tries = second;
    counts
}

fn mask(n: &Numbers) -> u64 {
    n.iter().enumerate().fold(0, |mask, (i, n)| mask | (u64::from(*n != 0) << i))
}

fn put(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        n |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn zigzag(now: u64, before: u64) -> u64 {
    let difference = now.wrapping_sub(before) as i64;
    ((difference << 1) ^ (difference >> 63)) as u64
}

fn unzigzag(n: u64, before: u64) -> u64 {
    before.wrapping_add((n >> 1) ^ (n & 1).wrapping_neg())
}

/// Writes counts.
pub(crate) fn encode(c: &Counts) -> Vec<u8> {
    let n = numbers(c);
    let mut bytes = Vec::with_capacity(32);
    put(&mut bytes, mask(&n));
    n.iter().filter(|n| **n != 0).for_each(|n| put(&mut bytes, *n));
    bytes
}

/// Reads counts. `None`: these bytes are none.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Counts> {
    let mask = take(&mut bytes)?;
    let mut n = [0; FIELDS];
    for (i, n) in n.iter_mut().enumerate() {
        if mask & (1 << i) != 0 {
            *n = take(&mut bytes)?;
        }
    }
    (bytes.is_empty() && mask >> FIELDS == 0).then(|| counts(&n))
}

/// Counts of slots, in their order.
pub(crate) type Slots = Vec<(u8, Counts)>;

/// Writes slots. They have to be in their order, and not empty.
pub(crate) fn encode_slots(slots: &[(u8, Counts)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * 16);
    let (mut at, mut before) = (-1i16, [0; FIELDS]);
    for (slot, c) in slots {
        let n = numbers(c);
        put(&mut bytes, (i16::from(*slot) - at).unsigned_abs().into());
        let shape = mask(&n);
        let is_same = shape == mask(&before);
        put(&mut bytes, if is_same { 0 } else { shape });
        for (n, before) in n.iter().zip(before).filter(|(n, _)| **n != 0) {
            put(&mut bytes, if is_same { zigzag(*n, before) } else { *n });
        }
        (at, before) = (i16::from(*slot), n);
    }
    bytes
}

/// Reads slots. `None`: these bytes are none.
pub(crate) fn decode_slots(mut bytes: &[u8]) -> Option<Slots> {
    let mut slots = Vec::new();
    let (mut at, mut before) = (-1i64, [0; FIELDS]);
    while !bytes.is_empty() {
        at += i64::try_from(take(&mut bytes)?).ok()?;
        let shape = take(&mut bytes)?;
        let is_same = shape == 0;
        let shape = if is_same { mask(&before) } else { shape };
        let mut n = [0; FIELDS];
        for (i, n) in n.iter_mut().enumerate() {
            if shape & (1 << i) != 0 {
                let value = take(&mut bytes)?;
                *n = if is_same { unzigzag(value, before[i]) } else { value };
            }
        }
        slots.push((u8::try_from(at).ok()?, counts(&n)));
        before = n;
    }
    Some(slots)
}

/// Writes the slots of many subjects, by their number.
pub(crate) fn encode_many<'a>(many: impl Iterator<Item = (i64, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (subject, slots) in many {
        put(&mut bytes, subject.unsigned_abs());
        put(&mut bytes, slots.len() as u64);
        bytes.extend_from_slice(slots);
    }
    bytes
}

/// Reads them. `None`: these bytes are none.
pub(crate) fn decode_many(mut bytes: &[u8]) -> Option<Vec<(i64, &[u8])>> {
    let mut many = Vec::new();
    while !bytes.is_empty() {
        let subject = i64::try_from(take(&mut bytes)?).ok()?;
        let length = usize::try_from(take(&mut bytes)?).ok()?;
        let (slots, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        many.push((subject, slots));
    }
    Some(many)
}

/// The sum of slots.
pub(crate) fn sum<'a>(slots: impl IntoIterator<Item = &'a Counts>) -> Counts {
    slots.into_iter().fold(Counts::default(), |mut sum, counts| {
        sum.add(counts);
        sum
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_counts() -> impl Strategy<Value = Counts> {
        let number = || prop_oneof![4 => Just(0u64), 4 => 0u64..3_000, 1 => any::<u64>()];
        proptest::array::uniform25(number()).prop_map(|n| counts(&n))
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            one in any_counts(),
            many in proptest::collection::btree_map(0u8..240, any_counts(), 0..40),
        ) {
            prop_assert_eq!(decode(&encode(&one)), Some(one));
            let slots: Slots = many.into_iter().filter(|(_, c)| mask(&numbers(c)) != 0).collect();
            prop_assert_eq!(decode_slots(&encode_slots(&slots)), Some(slots));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = (decode(&bytes), decode_slots(&bytes), decode_many(&bytes));
        }
    }

    #[test]
    fn a_steady_quarter_takes_few_bytes() {
        let mut one = Counts { by_class: [0, 1_500, 0, 2, 0, 0], ..Counts::default() };
        one.latency.buckets[1..5].copy_from_slice(&[300, 900, 280, 22]);
        one.latency.sum_us = 2_400_000;
        let slots: Slots = (0..240)
            .map(|slot| {
                let mut counts = one.clone();
                counts.by_class[1] += u64::from(slot) % 17;
                counts.latency.buckets[2] += u64::from(slot) % 17;
                counts.latency.sum_us += u64::from(slot) * 31 % 9_973;
                (slot, counts)
            })
            .collect();
        assert!(encode_slots(&slots).len() < 240 * 11, "{}", encode_slots(&slots).len());
    }
}
