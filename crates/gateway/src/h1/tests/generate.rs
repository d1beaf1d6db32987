//! Messages that are almost valid, made by spoiling valid ones, and a runner with one seed for all of them.
//!
//! The seed is fixed, so that a run can be repeated; `EVENKEEL_SEED` sets another, `EVENKEEL_CASES` multiplies the number
//! of cases. A failure prints the seed and the shortest message that shows it.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::messages::{LINES, SPLINTERS};

const SEED: u64 = 0x0E7E_4B33_1091_1209;

/// One way to spoil a message.
#[derive(Clone, Debug)]
enum Spoil {
    Insert(Index, &'static [u8]),
    Overwrite(Index, &'static [u8]),
    Byte(Index, u8),
    Delete(Index, usize),
    FlipCase(Index),
    LineIn(Index, &'static [u8]),
    LineTwice(Index),
    LineOut(Index),
    LinesSwapped(Index),
    Cut(Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), select(SPLINTERS)).prop_map(|(i, s)| Spoil::Insert(i, s)),
        3 => (at(), select(SPLINTERS)).prop_map(|(i, s)| Spoil::Overwrite(i, s)),
        2 => (at(), any::<u8>()).prop_map(|(i, b)| Spoil::Byte(i, b)),
        2 => (at(), 1..4usize).prop_map(|(i, n)| Spoil::Delete(i, n)),
        1 => at().prop_map(Spoil::FlipCase),
        4 => (at(), select(LINES)).prop_map(|(i, l)| Spoil::LineIn(i, l)),
        1 => at().prop_map(Spoil::LineTwice),
        1 => at().prop_map(Spoil::LineOut),
        1 => at().prop_map(Spoil::LinesSwapped),
        1 => at().prop_map(Spoil::Cut),
    ]
}

fn apply(mut wire: Vec<u8>, spoil: &Spoil) -> Vec<u8> {
    let at = |index: &Index| index.index(wire.len() + 1);
    match spoil {
        Spoil::Insert(index, bytes) => {
            let at = at(index);
            wire.splice(at..at, bytes.iter().copied());
        }
        Spoil::Overwrite(index, bytes) => {
            let at = at(index);
            let end = (at + bytes.len()).min(wire.len());
            wire.splice(at..end, bytes.iter().copied());
        }
        Spoil::Byte(index, byte) => {
            let at = at(index);
            if let Some(place) = wire.get_mut(at) {
                *place = *byte;
            }
        }
        Spoil::Delete(index, n) => {
            let at = at(index);
            let end = (at + n).min(wire.len());
            wire.drain(at..end);
        }
        Spoil::FlipCase(index) => {
            let at = at(index);
            if let Some(byte) = wire.get_mut(at).filter(|b| b.is_ascii_alphabetic()) {
                *byte ^= 0x20;
            }
        }
        Spoil::Cut(index) => {
            let at = at(index);
            wire.truncate(at);
        }
        Spoil::LineIn(index, line) => {
            let mut lines = lines_of(&wire);
            lines.insert(index.index(lines.len() + 1), line);
            return lines.concat();
        }
        Spoil::LineTwice(index) | Spoil::LineOut(index) | Spoil::LinesSwapped(index) => {
            let mut lines = lines_of(&wire);
            if lines.len() > 1 {
                let at = index.index(lines.len() - 1);
                match spoil {
                    Spoil::LineTwice(_) => lines.insert(at, lines[at]),
                    Spoil::LineOut(_) => drop(lines.remove(at)),
                    _ => lines.swap(at, at + 1),
                }
            }
            return lines.concat();
        }
    }
    wire
}

fn lines_of(wire: &[u8]) -> Vec<&[u8]> {
    wire.split_inclusive(|b| *b == b'\n').collect()
}

/// Messages made from `bases`, spoiled in up to four ways.
pub(super) fn near(bases: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    (select(bases), prop::collection::vec(spoil(), 0..=4))
        .prop_map(|(base, spoils)| spoils.iter().fold(base.to_vec(), apply))
}

/// Runs `test` on `cases` values.
pub(super) fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let from_env = |name| std::env::var(name).ok().map(|v| v.parse::<u64>().expect(name));
    let seed = from_env("EVENKEEL_SEED").unwrap_or(SEED);
    let cases = cases.saturating_mul(from_env("EVENKEEL_CASES").unwrap_or(1).try_into().unwrap_or(u32::MAX));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    match runner.run(strategy, test) {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("EVENKEEL_SEED={seed}: {why}\n{value:?}"),
        Err(TestError::Abort(why)) => panic!("EVENKEEL_SEED={seed}: {why}"),
    }
}
