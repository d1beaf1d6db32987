//! What servers send: readers of the bodies that the pooler looks into, and builders of what it tells clients itself.

use super::{Body, MAJOR, WireError, put, put_count, put_text, put_values, tag};

/// The fields of an `ErrorResponse` or a `NoticeResponse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    body: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not laid out as it has to be.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Body::new("ErrorResponse or NoticeResponse", body);
        while rest.u8()? != 0 {
            rest.text()?;
        }
        rest.end()?;
        Ok(Self { body })
    }

    /// The field of this code, as it came: texts are in the session's encoding.
    pub fn raw(&self, code: u8) -> Option<&'a [u8]> {
        let mut body = Body::new("", self.body);
        loop {
            match body.u8().ok()? {
                0 => return None,
                found => {
                    let text = body.text().ok()?;
                    if found == code {
                        return Some(text);
                    }
                }
            }
        }
    }

    /// The field of this code, if it is there and UTF-8.
    pub fn field(&self, code: u8) -> Option<&'a str> {
        std::str::from_utf8(self.raw(code)?).ok()
    }

    /// The SQLSTATE; `XX000` if there is none.
    pub fn sqlstate(&self) -> &'a str {
        self.field(b'C').unwrap_or("XX000")
    }

    /// The severity, not translated where the server says it so (PostgreSQL 9.6 and later).
    pub fn severity(&self) -> &'a str {
        self.field(b'V').or_else(|| self.field(b'S')).unwrap_or("ERROR")
    }

    /// The message.
    pub fn message(&self) -> String {
        self.raw(b'M').map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    }
}

/// Name and value of a `ParameterStatus`.
///
/// # Errors
/// If it is not laid out as it has to be. [`WireError::Utf8`] is not the server's fault: values are in the session's
/// encoding.
pub fn parameter_status(body: &[u8]) -> Result<(&str, &str), WireError> {
    let mut body = Body::new("ParameterStatus", body);
    let pair = (body.str()?, body.str()?);
    body.end()?;
    Ok(pair)
}

/// The tag of a `CommandComplete`, such as `SELECT 1`.
///
/// # Errors
/// If it does not end with its zero byte.
pub fn command_tag(body: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::new("CommandComplete", body);
    let text = body.text()?;
    body.end()?;
    Ok(text)
}

/// The status of a `ReadyForQuery`: `b'I'` for idle, `b'T'` within a transaction, `b'E'` within a failed one.
///
/// # Errors
/// If it is anything else.
pub fn ready_status(body: &[u8]) -> Result<u8, WireError> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Ok(*status),
        _ => Err(WireError::Value { message: "ReadyForQuery", what: "a status that is none of I, T and E" }),
    }
}

/// Process and secret of a `BackendKeyData`.
///
/// # Errors
/// If the secret is too short or too long.
pub fn key_data(body: &[u8]) -> Result<(i32, &[u8]), WireError> {
    let mut body = Body::new("BackendKeyData", body);
    let pid = body.i32()?;
    Ok((pid, body.key()?))
}

/// A step of authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It is over.
    Ok,
    /// The password is wanted as it is.
    Cleartext,
    /// An MD5 of password, user and this salt is wanted.
    Md5([u8; 4]),
    /// SASL with one of these mechanisms, the most wanted one first.
    Sasl(Vec<&'a str>),
    /// The server's next SASL message.
    SaslContinue(&'a [u8]),
    /// The server's last SASL message.
    SaslFinal(&'a [u8]),
    /// A step that is not spoken here (GSSAPI, SSPI, and what may come).
    Other(i32),
}

/// Reads an `Authentication…` message.
///
/// # Errors
/// If it is not laid out as it has to be.
pub fn authentication(body: &[u8]) -> Result<Authentication<'_>, WireError> {
    let mut body = Body::new("an authentication request", body);
    let step = match body.i32()? {
        0 => Authentication::Ok,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5(body.array()?),
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match body.str()? {
                    "" => break Authentication::Sasl(mechanisms),
                    mechanism => mechanisms.push(mechanism),
                }
            }
        }
        11 => return Ok(Authentication::SaslContinue(body.rest)),
        12 => return Ok(Authentication::SaslFinal(body.rest)),
        other => return Ok(Authentication::Other(other)),
    };
    body.end()?;
    Ok(step)
}

/// The values of a `DataRow`; `None` is NULL.
///
/// # Errors
/// If it is not laid out as it has to be.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let mut body = Body::new("DataRow", body);
    let count = body.count()?;
    let mut values = Vec::with_capacity(count.min(body.rest.len() / 4));
    for _ in 0..count {
        values.push(match body.i32()? {
            -1 => None,
            length => Some(body.bytes(usize::try_from(length).map_err(|_| body.value("a negative length"))?)?),
        });
    }
    body.end()?;
    Ok(values)
}

/// Reads a `NegotiateProtocolVersion`: the newest minor version of protocol 3 that the server speaks, and the options it
/// does not know. Servers send the whole version, though the documentation speaks of the minor one; both are taken.
///
/// # Errors
/// If it is not laid out as it has to be, or of another protocol.
pub fn negotiate(body: &[u8]) -> Result<(u16, Vec<&str>), WireError> {
    let mut body = Body::new("NegotiateProtocolVersion", body);
    let version = body.u32()?;
    if !matches!((version >> 16) as u16, 0 | MAJOR) {
        return Err(body.value("another protocol's version"));
    }
    let count = body.u32()? as usize;
    let mut unknown = Vec::new();
    for _ in 0..count {
        unknown.push(body.str()?);
    }
    body.end()?;
    Ok((version as u16, unknown))
}

/// Appends an `ErrorResponse`. `severity` is `ERROR` or `FATAL`.
pub fn put_error(
    out: &mut Vec<u8>,
    severity: &str,
    sqlstate: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    put(out, tag::ERROR, |out| put_fields(out, severity, sqlstate, message, detail, hint));
}

/// Appends a `NoticeResponse`. `severity` is `WARNING`, `NOTICE` or less.
pub fn put_notice(
    out: &mut Vec<u8>,
    severity: &str,
    sqlstate: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    put(out, tag::NOTICE, |out| put_fields(out, severity, sqlstate, message, detail, hint));
}

fn put_fields(
    out: &mut Vec<u8>,
    severity: &str,
    sqlstate: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    let always = [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message)];
    let perhaps = detail.map(|text| (b'D', text)).into_iter().chain(hint.map(|text| (b'H', text)));
    for (code, text) in always.into_iter().chain(perhaps) {
        out.push(code);
        put_text(out, text.as_bytes());
    }
    out.push(0);
}

/// Appends `ReadyForQuery` with this status: `b'I'`, `b'T'` or `b'E'`.
pub fn put_ready(out: &mut Vec<u8>, status: u8) {
    put(out, tag::READY, |out| out.push(status));
}

/// Appends `ParameterStatus`.
pub fn put_parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, tag::PARAMETER_STATUS, |out| {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    });
}

/// Appends `BackendKeyData`.
pub fn put_key_data(out: &mut Vec<u8>, pid: i32, key: &[u8]) {
    put(out, tag::KEY_DATA, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

fn put_authentication(out: &mut Vec<u8>, code: i32, body: impl FnOnce(&mut Vec<u8>)) {
    put(out, tag::AUTHENTICATION, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        body(out);
    });
}

/// Appends `AuthenticationOk`.
pub fn put_authentication_ok(out: &mut Vec<u8>) {
    put_authentication(out, 0, |_| {});
}

/// Appends `AuthenticationCleartextPassword`.
pub fn put_authentication_cleartext(out: &mut Vec<u8>) {
    put_authentication(out, 3, |_| {});
}

/// Appends `AuthenticationMD5Password`.
pub fn put_authentication_md5(out: &mut Vec<u8>, salt: [u8; 4]) {
    put_authentication(out, 5, |out| out.extend_from_slice(&salt));
}

/// Appends `AuthenticationSASL`, the most wanted mechanism first.
pub fn put_authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    put_authentication(out, 10, |out| {
        for mechanism in mechanisms {
            put_text(out, mechanism.as_bytes());
        }
        out.push(0);
    });
}

/// Appends `AuthenticationSASLContinue`.
pub fn put_authentication_sasl_continue(out: &mut Vec<u8>, message: &[u8]) {
    put_authentication(out, 11, |out| out.extend_from_slice(message));
}

/// Appends `AuthenticationSASLFinal`.
pub fn put_authentication_sasl_final(out: &mut Vec<u8>, message: &[u8]) {
    put_authentication(out, 12, |out| out.extend_from_slice(message));
}

/// Appends `ParseComplete`.
pub fn put_parse_complete(out: &mut Vec<u8>) {
    put(out, tag::PARSE_COMPLETE, |_| {});
}

/// Appends `BindComplete`.
pub fn put_bind_complete(out: &mut Vec<u8>) {
    put(out, tag::BIND_COMPLETE, |_| {});
}

/// Appends `CloseComplete`.
pub fn put_close_complete(out: &mut Vec<u8>) {
    put(out, tag::CLOSE_COMPLETE, |_| {});
}

/// Appends `NoData`.
pub fn put_no_data(out: &mut Vec<u8>) {
    put(out, tag::NO_DATA, |_| {});
}

/// Appends `EmptyQueryResponse`.
pub fn put_empty_query(out: &mut Vec<u8>) {
    put(out, tag::EMPTY_QUERY, |_| {});
}

/// Appends `CommandComplete`.
pub fn put_command_complete(out: &mut Vec<u8>, command: &str) {
    put(out, tag::COMMAND_COMPLETE, |out| put_text(out, command.as_bytes()));
}

/// Appends `ParameterDescription` of these types.
pub fn put_parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    put(out, tag::PARAMETER_DESCRIPTION, |out| {
        put_count(out, types.len());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// Appends `RowDescription`: names and types of columns that are of no table and come as text.
pub fn put_row_description(out: &mut Vec<u8>, columns: &[(&str, u32)]) {
    put(out, tag::ROW_DESCRIPTION, |out| {
        put_count(out, columns.len());
        for (name, oid) in columns {
            put_text(out, name.as_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&type_size(*oid).to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        }
    });
}

/// `typlen` of the types that the pooler sends itself; -1, which is right of all that vary, for others.
const fn type_size(oid: u32) -> i16 {
    match oid {
        16 | 18 => 1,
        21 => 2,
        23 | 26 | 700 => 4,
        20 | 701 | 1114 | 1184 => 8,
        _ => -1,
    }
}

/// Appends `DataRow` with values as text; `None` is NULL.
pub fn put_data_row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    put(out, tag::DATA_ROW, |out| put_values(out, values));
}

/// Appends `NegotiateProtocolVersion`: the newest minor version of protocol 3, and the options that are not known.
pub fn put_negotiate(out: &mut Vec<u8>, minor: u16, unknown: &[&str]) {
    put(out, tag::NEGOTIATE, |out| {
        out.extend_from_slice(&MAJOR.to_be_bytes());
        out.extend_from_slice(&minor.to_be_bytes());
        out.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
        for option in unknown {
            put_text(out, option.as_bytes());
        }
    });
}
