//! However a message is cut up, it means the same, and an error is the same error.

use proptest::prelude::*;
use proptest::sample::Index;

use super::generate::{near, run};
use super::support::{HeadCase, LIMITS, decode};
use super::{chunks, framing, messages, request_fields, request_line, responses};
use crate::h1::{ChunkError, HeadError, HeadLimits, RequestParser, ResponseParser};

/// Limits that many of the messages exceed.
const TIGHT: HeadLimits = HeadLimits { first_line: 20, target: 8, headers: 40, lines: 2 };

/// Messages up to this length are cut at every pair of places.
const PAIRS_MAX: usize = 72;

/// What a head came to: everything that is known about it, or nothing yet, or an error.
type Outcome = Result<Option<String>, HeadError>;

/// Parses a request that arrives up to each of `cuts`, then whole.
fn request(wire: &[u8], cuts: &[usize], limits: &HeadLimits) -> Outcome {
    let mut parser = RequestParser::default();
    for end in cuts.iter().copied().chain([wire.len()]) {
        if parser.parse(&wire[..end], limits)? {
            return Ok(Some(format!("{:?}", parser.head())));
        }
    }
    Ok(None)
}

fn response(wire: &[u8], cuts: &[usize], limits: &HeadLimits) -> Outcome {
    let mut parser = ResponseParser::default();
    for end in cuts.iter().copied().chain([wire.len()]) {
        if parser.parse(&wire[..end], limits, false)? {
            return Ok(Some(format!("{:?}", parser.head())));
        }
    }
    Ok(None)
}

fn chunked(wire: &[u8], cuts: &[usize]) -> Result<String, ChunkError> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([wire.len()]) {
        pieces.push(&wire[start..end]);
        start = end;
    }
    decode(&pieces).map(|d| format!("{d:?}"))
}

/// Every way to cut `wire`: at one place, at two if it is short, and everywhere at once.
fn every_cut<T: PartialEq + std::fmt::Debug>(wire: &[u8], read: impl Fn(&[usize]) -> T) {
    let whole = read(&[]);
    let check = |cuts: &[usize]| {
        let got = read(cuts);
        assert!(got == whole, "{} cut at {cuts:?}\n  got   {got:?}\n  whole {whole:?}", wire.escape_ascii());
    };
    check(&(0..wire.len()).collect::<Vec<_>>());
    (0..=wire.len()).for_each(|at| check(&[at]));
    if wire.len() <= PAIRS_MAX {
        (0..wire.len()).for_each(|a| (a..wire.len()).for_each(|b| check(&[a, b])));
    }
}

fn every_head(tables: &[&[HeadCase]], read: impl Fn(&[u8], &[usize], &HeadLimits) -> Outcome) {
    for (_, wire, _) in tables.iter().copied().flatten() {
        every_cut(wire, |cuts| read(wire, cuts, &LIMITS));
        every_cut(wire, |cuts| read(wire, cuts, &TIGHT));
    }
}

#[test]
fn requests_at_every_byte() {
    every_head(&[request_line::TABLE, request_fields::TABLE, framing::TABLE], request);
    messages::REQUESTS.iter().for_each(|wire| every_cut(wire, |cuts| request(wire, cuts, &LIMITS)));
}

#[test]
fn answers_at_every_byte() {
    every_head(&[responses::TABLE], response);
    messages::RESPONSES.iter().for_each(|wire| every_cut(wire, |cuts| response(wire, cuts, &LIMITS)));
}

#[test]
fn chunked_bodies_at_every_byte() {
    chunks::TABLE.iter().for_each(|(_, wire, _)| every_cut(wire, |cuts| chunked(wire, cuts)));
    messages::BODIES.iter().for_each(|wire| every_cut(wire, |cuts| chunked(wire, cuts)));
}

/// A message and where it is cut.
fn cut(bases: &'static [&'static [u8]]) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (near(bases), prop::collection::vec(any::<Index>(), 0..6)).prop_map(|(wire, at)| {
        let mut cuts: Vec<usize> = at.iter().map(|i| i.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        (wire, cuts)
    })
}

#[test]
fn spoiled_messages_at_any_bytes() {
    run(3000, &cut(messages::REQUESTS), |(wire, cuts)| {
        prop_assert_eq!(request(&wire, &cuts, &LIMITS), request(&wire, &[], &LIMITS));
        prop_assert_eq!(request(&wire, &cuts, &TIGHT), request(&wire, &[], &TIGHT));
        Ok(())
    });
    run(2000, &cut(messages::RESPONSES), |(wire, cuts)| {
        prop_assert_eq!(response(&wire, &cuts, &LIMITS), response(&wire, &[], &LIMITS));
        prop_assert_eq!(response(&wire, &cuts, &TIGHT), response(&wire, &[], &TIGHT));
        Ok(())
    });
    run(3000, &cut(messages::BODIES), |(wire, cuts)| {
        prop_assert_eq!(chunked(&wire, &cuts), chunked(&wire, &[]));
        Ok(())
    });
}

/// A parser that is used again knows nothing of what it has read before.
#[test]
fn a_parser_can_be_used_again() {
    let (mut requests, mut answers) = (RequestParser::default(), ResponseParser::default());
    for wire in messages::REQUESTS.iter().chain(request_fields::TABLE.iter().map(|(_, wire, _)| wire)) {
        requests.reset();
        let again = requests.parse(wire, &LIMITS).map(|whole| whole.then(|| format!("{:?}", requests.head())));
        assert_eq!(again, request(wire, &[], &LIMITS), "{}", wire.escape_ascii());
    }
    for (_, wire, _) in responses::TABLE {
        answers.reset();
        let again = answers.parse(wire, &LIMITS, false).map(|whole| whole.then(|| format!("{:?}", answers.head())));
        assert_eq!(again, response(wire, &[], &LIMITS), "{}", wire.escape_ascii());
    }
}
