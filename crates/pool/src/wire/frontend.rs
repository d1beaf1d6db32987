//! What clients send: readers of the bodies that the pooler looks into, and builders of what it sends to servers.

use super::{Body, KEY_MAX, MAJOR, SSL_CODE, WireError, put, put_count, put_text, put_untagged, put_values, tag};

/// `Parse`: prepare a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the statement; empty for the unnamed one.
    pub name: &'a [u8],
    /// The SQL text.
    pub text: &'a [u8],
    /// The types of the parameters as they came: a count and as many object ids.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not laid out as it has to be.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Parse", body);
        let (name, text) = (body.text()?, body.text()?);
        let types = body.rest;
        let count = body.count()?;
        body.bytes(count * 4)?;
        body.end()?;
        Ok(Self { name, text, types })
    }
}

/// `Bind`: make a portal. The values are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Name of the statement; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Where, in the body, the formats and values begin.
    pub rest_at: usize,
}

impl<'a> Bind<'a> {
    /// Reads the names from the first bytes of a body; `None` if they are not all there.
    ///
    /// # Errors
    /// None today; the signature leaves room for names that can be seen to be wrong.
    pub fn read_names(prefix: &'a [u8]) -> Result<Option<Self>, WireError> {
        let mut body = Body::new("Bind", prefix);
        let (Ok(portal), Ok(statement)) = (body.text(), body.text()) else { return Ok(None) };
        Ok(Some(Self { portal, statement, rest_at: prefix.len() - body.rest.len() }))
    }
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `b'S'` for a statement, `b'P'` for a portal.
    pub kind: u8,
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Target<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not laid out as it has to be, or about anything else than a statement or a portal.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Describe or Close", body);
        let kind = body.u8()?;
        if !matches!(kind, b'S' | b'P') {
            return Err(body.value("a kind that is neither S nor P"));
        }
        let name = body.text()?;
        body.end()?;
        Ok(Self { kind, name })
    }
}

/// `Execute`: run a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// Most rows to return; 0 or less for all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not laid out as it has to be.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Execute", body);
        let read = Self { portal: body.text()?, max_rows: body.i32()? };
        body.end()?;
        Ok(read)
    }
}

/// The text of a `Query`.
///
/// # Errors
/// If it does not end with its zero byte.
pub fn query_text(body: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::new("Query", body);
    let text = body.text()?;
    body.end()?;
    Ok(text)
}

/// Appends `Query`.
pub fn put_query(out: &mut Vec<u8>, text: &[u8]) {
    put(out, tag::QUERY, |out| put_text(out, text));
}

/// Appends `Parse`. `types` is as in [`Parse::types`]; empty stands for none.
pub fn put_parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    put(out, tag::PARSE, |out| {
        put_text(out, name);
        put_text(out, text);
        out.extend_from_slice(if types.is_empty() { &[0, 0] } else { types });
    });
}

/// Appends the first bytes of a `Bind`: header and names. The caller sends what follows, so that the body has
/// `total_body_len` bytes, the names and their zero bytes included.
pub fn put_bind_header(out: &mut Vec<u8>, total_body_len: usize, portal: &[u8], statement: &[u8]) {
    out.push(tag::BIND);
    out.extend_from_slice(&(total_body_len as u32 + 4).to_be_bytes());
    put_text(out, portal);
    put_text(out, statement);
}

/// Appends a `Bind` with values as text, asking for results as text.
pub fn put_bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], values: &[Option<&str>]) {
    put(out, tag::BIND, |out| {
        put_text(out, portal);
        put_text(out, statement);
        put_count(out, 0);
        put_values(out, values);
        put_count(out, 0);
    });
}

/// Appends `Execute`.
pub fn put_execute(out: &mut Vec<u8>, portal: &[u8], max_rows: i32) {
    put(out, tag::EXECUTE, |out| {
        put_text(out, portal);
        out.extend_from_slice(&max_rows.to_be_bytes());
    });
}

/// Appends `Describe` of a statement (`b'S'`) or a portal (`b'P'`).
pub fn put_describe(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    put(out, tag::DESCRIBE, |out| {
        out.push(kind);
        put_text(out, name);
    });
}

/// Appends `Close` of a statement (`b'S'`) or a portal (`b'P'`).
pub fn put_close(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    put(out, tag::CLOSE, |out| {
        out.push(kind);
        put_text(out, name);
    });
}

/// Appends `Sync`.
pub fn put_sync(out: &mut Vec<u8>) {
    put(out, tag::SYNC, |_| {});
}

/// Appends `Flush`.
pub fn put_flush(out: &mut Vec<u8>) {
    put(out, tag::FLUSH, |_| {});
}

/// Appends `Terminate`.
pub fn put_terminate(out: &mut Vec<u8>) {
    put(out, tag::TERMINATE, |_| {});
}

/// Appends `CopyFail`.
pub fn put_copy_fail(out: &mut Vec<u8>, message: &str) {
    put(out, tag::COPY_FAIL, |out| put_text(out, message.as_bytes()));
}

/// Appends the startup packet of protocol 3.`minor`.
pub fn put_startup(out: &mut Vec<u8>, minor: u16, parameters: &[(&str, &str)]) {
    put_untagged(out, |out| {
        out.extend_from_slice(&MAJOR.to_be_bytes());
        out.extend_from_slice(&minor.to_be_bytes());
        for (name, value) in parameters {
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// Appends the request for TLS.
pub fn put_ssl_request(out: &mut Vec<u8>) {
    put_untagged(out, |out| out.extend_from_slice(&SSL_CODE.to_be_bytes()));
}

/// Appends the request to cancel what a session does.
pub fn put_cancel(out: &mut Vec<u8>, pid: i32, key: &[u8]) {
    debug_assert!(key.len() <= KEY_MAX, "keys come from readers, which bound them");
    put_untagged(out, |out| {
        out.extend_from_slice(&super::CANCEL_CODE.to_be_bytes());
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// Appends a password, or what stands for one.
pub fn put_password(out: &mut Vec<u8>, password: &[u8]) {
    put(out, tag::PASSWORD, |out| put_text(out, password));
}

/// Appends `SASLInitialResponse`.
pub fn put_sasl_initial(out: &mut Vec<u8>, mechanism: &str, response: &[u8]) {
    put(out, tag::PASSWORD, |out| {
        put_text(out, mechanism.as_bytes());
        out.extend_from_slice(&(response.len() as u32).to_be_bytes());
        out.extend_from_slice(response);
    });
}

/// Appends `SASLResponse`.
pub fn put_sasl_response(out: &mut Vec<u8>, response: &[u8]) {
    put(out, tag::PASSWORD, |out| out.extend_from_slice(response));
}

/// The text of a `PasswordMessage`.
///
/// # Errors
/// If it does not end with its zero byte.
pub fn password(body: &[u8]) -> Result<&[u8], WireError> {
    let mut body = Body::new("PasswordMessage", body);
    let password = body.text()?;
    body.end()?;
    Ok(password)
}

/// Mechanism and first response of a `SASLInitialResponse`; no response if the client sent none.
///
/// # Errors
/// If it is not laid out as it has to be.
pub fn sasl_initial(body: &[u8]) -> Result<(&str, Option<&[u8]>), WireError> {
    let mut body = Body::new("SASLInitialResponse", body);
    let mechanism = body.str()?;
    let response = match body.i32()? {
        -1 => None,
        length => Some(body.bytes(usize::try_from(length).map_err(|_| body.value("a negative length"))?)?),
    };
    body.end()?;
    Ok((mechanism, response))
}
