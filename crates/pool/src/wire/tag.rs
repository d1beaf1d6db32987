//! Which message a tag stands for. Some letters mean one thing from a client and another from a server.

/// Client: a simple query.
pub const QUERY: u8 = b'Q';
/// Client: prepare a statement.
pub const PARSE: u8 = b'P';
/// Client: make a portal of a statement and values.
pub const BIND: u8 = b'B';
/// Client: run a portal.
pub const EXECUTE: u8 = b'E';
/// Client: describe a statement or a portal.
pub const DESCRIBE: u8 = b'D';
/// Client: close a statement or a portal.
pub const CLOSE: u8 = b'C';
/// Client: the end of a batch of the extended protocol.
pub const SYNC: u8 = b'S';
/// Client: answer what there is.
pub const FLUSH: u8 = b'H';
/// Client: good-bye.
pub const TERMINATE: u8 = b'X';
/// Client: call a function (obsolete).
pub const FUNCTION_CALL: u8 = b'F';
/// Client: a password, or a SASL message.
pub const PASSWORD: u8 = b'p';

/// Both: rows of a COPY.
pub const COPY_DATA: u8 = b'd';
/// Both: the end of a COPY's rows.
pub const COPY_DONE: u8 = b'c';
/// Client: a COPY has failed.
pub const COPY_FAIL: u8 = b'f';

/// Server: a step of authentication.
pub const AUTHENTICATION: u8 = b'R';
/// Server: the key by which the session can be cancelled.
pub const KEY_DATA: u8 = b'K';
/// Server: the value of a setting.
pub const PARAMETER_STATUS: u8 = b'S';
/// Server: the newest minor version that it speaks.
pub const NEGOTIATE: u8 = b'v';
/// Server: it waits for the next query.
pub const READY: u8 = b'Z';
/// Server: an error.
pub const ERROR: u8 = b'E';
/// Server: a notice.
pub const NOTICE: u8 = b'N';
/// Server: a notification of LISTEN.
pub const NOTIFICATION: u8 = b'A';
/// Server: a statement is prepared.
pub const PARSE_COMPLETE: u8 = b'1';
/// Server: a portal is made.
pub const BIND_COMPLETE: u8 = b'2';
/// Server: a statement or a portal is closed.
pub const CLOSE_COMPLETE: u8 = b'3';
/// Server: the columns of the rows that follow.
pub const ROW_DESCRIPTION: u8 = b'T';
/// Server: a row.
pub const DATA_ROW: u8 = b'D';
/// Server: what is described returns no rows.
pub const NO_DATA: u8 = b'n';
/// Server: the types of a statement's parameters.
pub const PARAMETER_DESCRIPTION: u8 = b't';
/// Server: a command has been run.
pub const COMMAND_COMPLETE: u8 = b'C';
/// Server: there was nothing to run.
pub const EMPTY_QUERY: u8 = b'I';
/// Server: a portal has more rows than were asked for.
pub const PORTAL_SUSPENDED: u8 = b's';
/// Server: it waits for the rows of a COPY.
pub const COPY_IN: u8 = b'G';
/// Server: the rows of a COPY follow.
pub const COPY_OUT: u8 = b'H';
/// Server: rows go both ways (replication).
pub const COPY_BOTH: u8 = b'W';
/// Server: what a function returned.
pub const FUNCTION_RESULT: u8 = b'V';
