//! Chunked bodies. Whole or in pieces they decode to the same bytes and end at the same place, or with the same error; and a
//! body that is framed anew decodes to what it was made from.

#![no_main]

use fuzz::{cuts, pieces};
use gateway::h1::{ChunkError, ChunkedDecoder, Piece};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cuts = cuts(data);
    let whole = decode(&[data]);
    assert_eq!(decode(&pieces(data, &cuts)), whole, "cut at {cuts:?}");
    assert!(whole.data.len() <= data.len() && whole.trailers.len() <= data.len());
    if let Ok(Some(end)) = whole.end {
        assert_eq!(decode(&[&data[..end]]).end, Ok(Some(end)), "what is behind a body is no part of it");
        assert!(end == 0 || decode(&[&data[..end - 1]]).end == Ok(None), "a body ends before its last byte");
        identity(&whole.data, &whole.trailers, &cuts);
    }
    identity(data, b"", &cuts);
});

#[derive(Debug, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Vec<u8>,
    /// Where the body ended, if it has.
    end: Result<Option<usize>, ChunkError>,
}

fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let mut out = Decoded { data: Vec::new(), trailers: Vec::new(), end: Ok(None) };
    let mut before = 0;
    'pieces: for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            match decoder.next(&piece[at..]) {
                Ok(Piece::Data { start, end }) => {
                    assert!(start < end && end <= piece.len() - at);
                    out.data.extend_from_slice(&piece[at + start..at + end]);
                    at += end;
                }
                Ok(Piece::More) => at = piece.len(),
                Ok(Piece::Done(end)) => {
                    assert!(decoder.is_done() && end <= piece.len() - at);
                    assert_eq!(decoder.next(b"x"), Ok(Piece::Done(0)));
                    out.end = Ok(Some(before + at + end));
                    break 'pieces;
                }
                Err(error) => {
                    out.end = Err(error);
                    break 'pieces;
                }
            }
        }
        before += piece.len();
    }
    assert_eq!(decoder.is_done(), matches!(out.end, Ok(Some(_))));
    out.trailers.extend_from_slice(decoder.trailers());
    out
}

/// Frames `data` in the pieces that `cuts` make, with trailers that have been through a decoder, and decodes that.
fn identity(data: &[u8], trailers: &[u8], cuts: &[usize]) {
    let cuts: Vec<usize> = cuts.iter().copied().filter(|at| *at <= data.len()).collect();
    let mut framed = Vec::new();
    for piece in pieces(data, &cuts).into_iter().filter(|p| !p.is_empty()) {
        framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        framed.extend_from_slice(piece);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n");
    framed.extend_from_slice(trailers);
    framed.extend_from_slice(b"\r\n");
    let again = decode(&[&framed]);
    assert_eq!(again.end, Ok(Some(framed.len())));
    assert!(again.data == data && again.trailers == trailers);
}
