//! What the protocol code accepts and what it refuses, as tables; the same tables cut up at every byte; and its judgement
//! beside that of two independent parsers, which it may only be stricter than.

mod beside_httparse;
mod beside_hyper;
mod chunks;
mod framing;
mod generate;
mod limits;
mod messages;
mod request_fields;
mod request_line;
mod responses;
mod sent_on;
mod splits;
mod support;
