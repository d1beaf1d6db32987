//! Every builder is read back by its reader, every message is cut at every byte, and any bytes are read or refused.

use proptest::prelude::*;

use super::backend::*;
use super::frontend::*;
use super::*;

/// The bodies of the messages in `bytes`, by tag.
#[track_caller]
fn bodies(bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut at, mut out) = (0, Vec::new());
    while at < bytes.len() {
        let found = frame(&bytes[at..]).unwrap().unwrap();
        out.push((found.tag, &bytes[at + HEADER..at + found.len]));
        at += found.len;
    }
    assert_eq!(at, bytes.len());
    out
}

/// The body of the one message that `build` makes, which has this tag.
#[track_caller]
fn built(tag: u8, build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    build(&mut out);
    let message = out.split_off(6);
    assert_eq!(out, b"before");
    let [(found, body)] = bodies(&message)[..] else { panic!("more than one message") };
    assert_eq!(found, tag);
    body.to_vec()
}

/// That `read` takes all of `body`, none of it short of its end, and nothing behind it.
#[track_caller]
fn exact<'a, T: std::fmt::Debug>(
    body: &'a [u8],
    read: impl Fn(&'a [u8]) -> Result<T, WireError>,
    longer: &'a [u8],
) -> T {
    for end in 0..body.len() {
        assert!(read(&body[..end]).is_err(), "cut at {end}");
    }
    assert!(longer.starts_with(body) && longer.len() > body.len());
    assert!(read(longer).is_err(), "with more behind it");
    read(body).unwrap()
}

macro_rules! exact {
    ($body:expr, $read:expr) => {{
        let longer = [&$body[..], b"x"].concat();
        exact(&$body[..], |body| $read(body).map(|read| format!("{read:?}")), &longer);
        $read(&$body[..]).unwrap()
    }};
}

#[test]
fn a_frame_is_told_by_its_first_five_bytes() {
    let mut message = Vec::new();
    put_query(&mut message, b"select 1");
    for end in 0..message.len() {
        let expected = (end >= 5).then_some(Frame { tag: tag::QUERY, len: message.len() });
        assert_eq!(frame(&message[..end]), Ok(expected));
    }
}

#[test]
fn lengths_have_limits() {
    let with = |length: u32| [&b"Q"[..], &length.to_be_bytes()].concat();
    assert_eq!(frame(&with(4)), Ok(Some(Frame { tag: b'Q', len: 5 })));
    assert_eq!(frame(&with(3)), Err(WireError::Length { tag: b'Q', length: 3 }));
    assert_eq!(frame(&with(MESSAGE_MAX as u32)), Ok(Some(Frame { tag: b'Q', len: MESSAGE_MAX + 1 })));
    assert!(frame(&with(MESSAGE_MAX as u32 + 1)).is_err());
    assert!(frame(&with(u32::MAX)).is_err());
    let error = frame(b"\0\0\0\0\0").unwrap_err();
    assert_eq!(error.to_string(), "message \\x00 says that it is 0 bytes long");
    assert_eq!(error.sqlstate(), "08P01");
}

#[test]
fn startup_packets_are_read() {
    let mut session = Vec::new();
    put_startup(&mut session, 2, &[("user", "joe"), ("database", "é"), ("options", "")]);
    let parameters = vec![("user", "joe"), ("database", "é"), ("options", "")];
    let mut cancel = Vec::new();
    put_cancel(&mut cancel, -7, b"12345678");
    let mut ssl = Vec::new();
    put_ssl_request(&mut ssl);
    let gss = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    for (packet, expected) in [
        (&session[..], Startup::Session { minor: 2, parameters }),
        (&cancel, Startup::Cancel { pid: -7, key: b"12345678" }),
        (&ssl, Startup::Ssl),
        (&gss, Startup::Gss),
    ] {
        for end in 0..packet.len() {
            assert_eq!(startup(&packet[..end]), Ok(None));
        }
        let more = [packet, b"more"].concat();
        assert_eq!(startup(&more), Ok(Some((expected, packet.len()))));
    }
}

#[test]
fn startup_packets_that_are_wrong_are_refused() {
    let packet = |code: u32, rest: &[u8]| {
        let mut out = Vec::new();
        put_untagged(&mut out, |out| {
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(rest);
        });
        out
    };
    let three = 0x0003_0000;
    for (bytes, why) in [
        (packet(three, b""), "within a field"),
        (packet(three, b"user\0joe\0"), "within a field"),
        (packet(three, b"user\0joe"), "within a field"),
        (packet(three, b"user\0joe\0\0x"), "behind its last"),
        (packet(three, b"user\0\xff\0\0"), "UTF-8"),
        (packet(SSL_CODE, b"x"), "behind its last"),
        (packet(GSS_CODE, b"x"), "behind its last"),
        (packet(CANCEL_CODE, b"\0\0\0\x01abc"), "wrong length"),
        (packet(CANCEL_CODE, b"\0\0"), "within a field"),
        (packet(CANCEL_CODE, &[1; 4 + KEY_MAX + 1]), "wrong length"),
        (packet(0x0002_0000, b""), "protocol 2.0"),
        (packet(1234 << 16, b""), "protocol 1234.0"),
        (vec![0, 0, 0, 7], "7 bytes"),
        (b"GET / HTTP/1.1".to_vec(), "1195725856 bytes"),
    ] {
        let error = startup(&bytes).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        let is_version = matches!(error, WireError::Version { .. });
        assert_eq!(error.sqlstate(), if is_version { "0A000" } else { "08P01" });
    }
    assert!(startup(&packet(CANCEL_CODE, &[1; 4 + KEY_MAX])).is_ok());
    let long = |rest: usize| {
        let mut out = Vec::new();
        put_startup(&mut out, 0, &[("user", &"x".repeat(rest))]);
        out
    };
    let most = long(STARTUP_MAX - 4 - "user".len() - 3);
    assert_eq!(most.len(), STARTUP_MAX + 4);
    assert!(matches!(startup(&most), Ok(Some(_))));
    assert!(matches!(startup(&long(STARTUP_MAX - 4 - "user".len() - 2)), Err(WireError::StartupLength { .. })));
}

#[test]
fn what_clients_send_is_read_back() {
    let body = built(tag::QUERY, |out| put_query(out, b"select 1"));
    assert_eq!(exact!(body, query_text), b"select 1");
    let types = [0, 2, 0, 0, 0, 23, 0, 0, 0, 25];
    let body = built(tag::PARSE, |out| put_parse(out, b"s", b"select $1", &types));
    assert_eq!(exact!(body, Parse::read), Parse { name: b"s", text: b"select $1", types: &types });
    let body = built(tag::PARSE, |out| put_parse(out, b"", b"", b""));
    assert_eq!(exact!(body, Parse::read).types, [0, 0]);
    let body = built(tag::EXECUTE, |out| put_execute(out, b"p", -1));
    assert_eq!(exact!(body, Execute::read), Execute { portal: b"p", max_rows: -1 });
    let body = built(tag::DESCRIBE, |out| put_describe(out, b'S', b"s"));
    assert_eq!(exact!(body, Target::read), Target { kind: b'S', name: b"s" });
    let body = built(tag::CLOSE, |out| put_close(out, b'P', b""));
    assert_eq!(exact!(body, Target::read), Target { kind: b'P', name: b"" });
    assert!(Target::read(b"X\0").is_err());
    for (tag, build) in
        [(tag::SYNC, put_sync as fn(&mut Vec<u8>)), (tag::FLUSH, put_flush), (tag::TERMINATE, put_terminate)]
    {
        assert!(built(tag, build).is_empty());
    }
    let body = built(tag::PASSWORD, |out| put_password(out, b"secret"));
    assert_eq!(exact!(body, password), b"secret");
    let body = built(tag::PASSWORD, |out| put_sasl_initial(out, "SCRAM-SHA-256", b"n,,"));
    assert_eq!(exact!(body, sasl_initial), ("SCRAM-SHA-256", Some(&b"n,,"[..])));
    assert_eq!(sasl_initial(b"X\0\xff\xff\xff\xff"), Ok(("X", None)));
    assert!(sasl_initial(b"X\0\xff\xff\xff\xfe").is_err());
    assert_eq!(built(tag::PASSWORD, |out| put_sasl_response(out, b"c=")), b"c=");
    assert_eq!(built(tag::COPY_FAIL, |out| put_copy_fail(out, "no")), b"no\0");
}

#[test]
fn a_bind_gets_another_name() {
    let whole = built(tag::BIND, |out| put_bind(out, b"p", b"old", &[Some("1"), None]));
    for end in 0..whole.len() {
        let names = Bind::read_names(&whole[..end]).unwrap();
        assert_eq!(names.is_some(), end >= 6);
    }
    let bind = Bind::read_names(&whole).unwrap().unwrap();
    assert_eq!((bind.portal, bind.statement, bind.rest_at), (&b"p"[..], &b"old"[..], 6));
    let expected = built(tag::BIND, |out| put_bind(out, b"p", b"a newer one", &[Some("1"), None]));
    let mut streamed = Vec::new();
    put_bind_header(&mut streamed, expected.len(), b"p", b"a newer one");
    streamed.extend_from_slice(&whole[bind.rest_at..]);
    assert_eq!(bodies(&streamed), [(tag::BIND, &expected[..])]);
}

#[test]
fn what_servers_send_is_read_back() {
    let body = built(tag::ERROR, |out| put_error(out, "FATAL", "53300", "full", Some("20 of 20"), Some("wait")));
    let fields = exact!(body, Fields::read);
    let all = [b'S', b'V', b'C', b'M', b'D', b'H', b'W'].map(|code| fields.field(code));
    let texts = ["FATAL", "FATAL", "53300", "full", "20 of 20", "wait"].map(Some);
    assert_eq!(all[..6], texts);
    assert_eq!(
        (all[6], fields.sqlstate(), fields.severity(), fields.message().as_str()),
        (None, "53300", "FATAL", "full")
    );
    let body = built(tag::NOTICE, |out| put_notice(out, "NOTICE", "00000", "a\0b", None, None));
    assert_eq!(exact!(body, Fields::read).message(), "a");
    let latin = Fields::read(b"Mcaf\xe9\0\0").unwrap();
    assert_eq!((latin.field(b'M'), latin.raw(b'M'), latin.sqlstate()), (None, Some(&b"caf\xe9"[..]), "XX000"));
    assert_eq!(latin.message(), "caf\u{fffd}");
    for status in *b"ITE" {
        let body = built(tag::READY, |out| put_ready(out, status));
        assert_eq!(exact!(body, ready_status), status);
    }
    assert!(ready_status(b"X").is_err());
    let body = built(tag::PARAMETER_STATUS, |out| put_parameter_status(out, "TimeZone", "UTC"));
    assert_eq!(exact!(body, parameter_status), ("TimeZone", "UTC"));
    let body = built(tag::KEY_DATA, |out| put_key_data(out, 7, b"1234"));
    assert_eq!(key_data(&body), Ok((7, &b"1234"[..])));
    assert!(key_data(&body[..7]).is_err() && key_data(&[0; 4 + KEY_MAX + 1]).is_err());
    assert!(key_data(&[0; 4 + KEY_MAX]).is_ok());
    let body = built(tag::COMMAND_COMPLETE, |out| put_command_complete(out, "SELECT 1"));
    assert_eq!(exact!(body, command_tag), b"SELECT 1");
    let body = built(tag::DATA_ROW, |out| put_data_row(out, &[Some("a"), None, Some("")]));
    assert_eq!(exact!(body, data_row), [Some(&b"a"[..]), None, Some(b"")]);
    assert!(data_row(b"\0\x01\xff\xff\xff\xfe").is_err());
    assert!(data_row(b"\xff\xff").is_err());
    let body = built(tag::NEGOTIATE, |out| put_negotiate(out, 0, &["_pq_.a", "_pq_.b"]));
    assert_eq!(exact!(body, negotiate), (0, vec!["_pq_.a", "_pq_.b"]));
    assert_eq!(negotiate(b"\0\0\0\x02\0\0\0\0"), Ok((2, vec![])));
    assert!(negotiate(b"\0\x04\0\0\0\0\0\0").is_err());
    assert!(negotiate(b"\0\x03\0\0\xff\xff\xff\xff").is_err());
    let body = built(tag::ROW_DESCRIPTION, |out| put_row_description(out, &[("a", 20)]));
    assert_eq!(body, b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0");
    let body = built(tag::PARAMETER_DESCRIPTION, |out| put_parameter_description(out, &[25]));
    assert_eq!(body, b"\0\x01\0\0\0\x19");
    for (tag, build) in [
        (tag::PARSE_COMPLETE, put_parse_complete as fn(&mut Vec<u8>)),
        (tag::BIND_COMPLETE, put_bind_complete),
        (tag::CLOSE_COMPLETE, put_close_complete),
        (tag::NO_DATA, put_no_data),
        (tag::EMPTY_QUERY, put_empty_query),
    ] {
        assert!(built(tag, build).is_empty());
    }
}

#[test]
fn steps_of_authentication_are_read_back() {
    let step = |build: &dyn Fn(&mut Vec<u8>)| built(tag::AUTHENTICATION, build);
    let body = step(&put_authentication_ok);
    assert_eq!(exact!(body, authentication), Authentication::Ok);
    let body = step(&put_authentication_cleartext);
    assert_eq!(exact!(body, authentication), Authentication::Cleartext);
    let body = step(&|out| put_authentication_md5(out, *b"salt"));
    assert_eq!(exact!(body, authentication), Authentication::Md5(*b"salt"));
    let body = step(&|out| put_authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
    assert_eq!(exact!(body, authentication), Authentication::Sasl(vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
    let body = step(&|out| put_authentication_sasl_continue(out, b"r="));
    assert_eq!(authentication(&body), Ok(Authentication::SaslContinue(b"r=")));
    let body = step(&|out| put_authentication_sasl_final(out, b"v="));
    assert_eq!(authentication(&body), Ok(Authentication::SaslFinal(b"v=")));
    assert_eq!(authentication(b"\0\0\0\x07xyz"), Ok(Authentication::Other(7)));
}

/// A text without zero bytes, as all are that come out of a message.
fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1..=255_u8, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _read = (frame(&bytes), startup(&bytes));
        let _read = (Parse::read(&bytes), Bind::read_names(&bytes), Target::read(&bytes), Execute::read(&bytes));
        let _read = (query_text(&bytes), password(&bytes), sasl_initial(&bytes), authentication(&bytes));
        let _read = (parameter_status(&bytes), command_tag(&bytes), ready_status(&bytes), key_data(&bytes));
        let _read = (data_row(&bytes), negotiate(&bytes));
        if let Ok(fields) = Fields::read(&bytes) {
            (0..=255).for_each(|code| { fields.raw(code); });
        }
    }

    #[test]
    fn texts_come_back(name in text(), statement in text(), oids in proptest::collection::vec(any::<u32>(), 0..5)) {
        let mut types = (oids.len() as u16).to_be_bytes().to_vec();
        oids.iter().for_each(|oid| types.extend_from_slice(&oid.to_be_bytes()));
        let body = built(tag::PARSE, |out| put_parse(out, &name, &statement, &types));
        prop_assert_eq!(Parse::read(&body), Ok(Parse { name: &name, text: &statement, types: &types }));
    }

    #[test]
    fn messages_cut_anywhere_are_the_same_messages(texts in proptest::collection::vec(text(), 1..8), cut in any::<usize>()) {
        let mut stream = Vec::new();
        texts.iter().for_each(|text| put_query(&mut stream, text));
        let cut = cut % (stream.len() + 1);
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        for piece in [&stream[..cut], &stream[cut..]] {
            buffer.extend_from_slice(piece);
            while let Some(found) = frame(&buffer).unwrap().filter(|found| found.len <= buffer.len()) {
                seen.push(query_text(&buffer[HEADER..found.len]).unwrap().to_vec());
                buffer.drain(..found.len);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(seen, texts);
    }
}
