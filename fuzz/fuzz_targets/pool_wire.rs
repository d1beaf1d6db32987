//! PostgreSQL's messages. Any bytes are read or refused; whole or in pieces a stream has the same frames; what has been read
//! and is built anew is read as the same.

#![no_main]

use fuzz::{cuts, pieces};
use libfuzzer_sys::fuzz_target;
use pool::wire::backend::{self, Authentication, Fields};
use pool::wire::frontend::{self, Bind, Execute, Parse, Target};
use pool::wire::{Frame, HEADER, Startup, WireError, frame, startup};

fuzz_target!(|data: &[u8]| {
    let cuts = cuts(data);
    let whole = frames(&[data]);
    assert_eq!(frames(&pieces(data, &cuts)), whole, "cut at {cuts:?}");
    first(data, &cuts);
    let mut at = 0;
    for found in &whole.0 {
        body(&data[at + HEADER..at + found.len]);
        at += found.len;
    }
    body(data);
});

/// The frames of a stream that comes in these pieces, and the error that ends it.
fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<WireError>) {
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match frame(&buffer) {
                Ok(Some(found)) if found.len <= buffer.len() => {
                    buffer.drain(..found.len);
                    out.push(found);
                }
                Ok(_) => break,
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

/// The startup packet.
fn first(data: &[u8], cuts: &[usize]) {
    let whole = startup(data);
    for end in cuts {
        match startup(&data[..*end]) {
            Ok(None) => {}
            other => assert_eq!(other, whole, "cut at {end}"),
        }
    }
    let Ok(Some((said, length))) = whole else { return };
    assert!(length <= data.len());
    assert_eq!(startup(&data[..length]), Ok(Some((said.clone(), length))));
    let mut again = Vec::new();
    match &said {
        Startup::Ssl => frontend::put_ssl_request(&mut again),
        Startup::Gss => return,
        Startup::Cancel { pid, key } => frontend::put_cancel(&mut again, *pid, key),
        Startup::Session { minor, parameters } => frontend::put_startup(&mut again, *minor, parameters),
    }
    assert_eq!(again, data[..length]);
}

/// The body of the one message in `built`.
fn only(built: &[u8]) -> &[u8] {
    let found = frame(built).expect("what is built is right").expect("and whole");
    assert_eq!(found.len, built.len());
    &built[HEADER..]
}

/// Any message's body: what it can be read as, and that it is what is built of that.
fn body(data: &[u8]) {
    let mut out = Vec::new();
    let mut same = |build: &dyn Fn(&mut Vec<u8>)| {
        out.clear();
        build(&mut out);
        assert_eq!(only(&out), data);
    };
    if let Ok(text) = frontend::query_text(data) {
        same(&|out| frontend::put_query(out, text));
        assert_eq!(frontend::password(data), Ok(text));
        assert_eq!(backend::command_tag(data), Ok(text));
    }
    if let Ok(Parse { name, text, types }) = Parse::read(data) {
        same(&|out| frontend::put_parse(out, name, text, types));
    }
    if let Ok(Target { kind, name }) = Target::read(data) {
        same(&|out| frontend::put_describe(out, kind, name));
    }
    if let Ok(Execute { portal, max_rows }) = Execute::read(data) {
        same(&|out| frontend::put_execute(out, portal, max_rows));
    }
    if let Ok(Some(bind)) = Bind::read_names(data) {
        same(&|out| {
            frontend::put_bind_header(out, data.len(), bind.portal, bind.statement);
            out.extend_from_slice(&data[bind.rest_at..]);
        });
        assert_eq!(Bind::read_names(&data[..bind.rest_at]), Ok(Some(bind)));
        assert_eq!(Bind::read_names(&data[..bind.rest_at - 1]), Ok(None));
    }
    if let Ok((mechanism, Some(response))) = frontend::sasl_initial(data) {
        same(&|out| frontend::put_sasl_initial(out, mechanism, response));
    }
    if let Ok((name, value)) = backend::parameter_status(data) {
        same(&|out| backend::put_parameter_status(out, name, value));
    }
    if let Ok(status) = backend::ready_status(data) {
        same(&|out| backend::put_ready(out, status));
    }
    if let Ok((pid, key)) = backend::key_data(data) {
        same(&|out| backend::put_key_data(out, pid, key));
    }
    match backend::authentication(data) {
        Ok(Authentication::Sasl(mechanisms)) => same(&|out| backend::put_authentication_sasl(out, &mechanisms)),
        Ok(Authentication::SaslContinue(message)) => {
            same(&|out| backend::put_authentication_sasl_continue(out, message))
        }
        _ => {}
    }
    if let Ok(values) = backend::data_row(data)
        && let Ok(values) =
            values.iter().map(|value| value.map(std::str::from_utf8).transpose()).collect::<Result<Vec<_>, _>>()
    {
        same(&|out| backend::put_data_row(out, &values));
    }
    if let Ok((minor, unknown)) = backend::negotiate(data)
        && data.starts_with(&[0, 3])
    {
        same(&|out| backend::put_negotiate(out, minor, &unknown));
    }
    if let Ok(fields) = Fields::read(data) {
        for code in 1..=255 {
            assert!(fields.raw(code).is_none_or(|text| text.len() < data.len()));
        }
    }
}
