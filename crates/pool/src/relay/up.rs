//! From the client to the server.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Context, failing, lost, refusal, settings};
use crate::backend::{Backend, Deallocating, MAX_REPLAY, MAX_REPLIES, Measure, Reply, Unnamed};
use crate::session::{Failure, MAX_NAMES, Session};
use crate::sql::{self, Deallocate, Kind, Scan, Touches};
use crate::statements::{NoRoom, PREFIX, Statement};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{self, HEADER, WireError, tag};

/// A Parse is kept whole to be shared.
pub(crate) const PARSE_MAX: usize = 4 << 20;
/// A simple query is waited for and looked through up to here; what is larger passes, and leaves everything in doubt.
pub(crate) const QUERY_MAX: usize = 1 << 20;
/// Names of statements and portals.
pub(crate) const NAMES_MAX: usize = 8 << 10;

/// What became of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Up {
    /// How many were taken; the rest is a message that is not all there, or has to wait.
    pub(crate) taken: usize,
    /// What comes next.
    pub(crate) next: Next,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// More bytes of the client.
    More,
    /// Answers of the server: too much is under way.
    Answers,
    /// The client says goodbye.
    Close,
}

/// Takes what the client sent and appends to `out` what the server gets.
///
/// # Errors
/// If it breaks the protocol: the client is sent away.
pub(crate) fn up(
    session: &mut Session,
    backend: &mut Backend,
    input: &[u8],
    out: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Result<Up, WireError> {
    let mut at = 0;
    let mut next = Next::More;
    backend.is_waiting = false;
    while at < input.len() {
        if session.passing > 0 {
            let n = session.passing.min(input.len() - at);
            out.extend_from_slice(&input[at..at + n]);
            session.passing -= n;
            at += n;
            continue;
        }
        if session.dropping > 0 {
            let n = session.dropping.min(input.len() - at);
            session.dropping -= n;
            at += n;
            continue;
        }
        let Some(frame) = wire::frame(&input[at..])? else { break };
        if backend.replies.len() >= MAX_REPLIES {
            frontend::put_flush(out);
            next = Next::Answers;
            break;
        }
        if backend.is_sweeping {
            if backend.sweeps() {
                next = Next::Answers;
                break;
            }
            backend.is_sweeping = !backend.replies.is_empty();
        }
        let message = Message { tag: frame.tag, len: frame.len, have: &input[at..input.len().min(at + frame.len)] };
        if frame.tag == tag::TERMINATE {
            next = Next::Close;
            break;
        }
        if !message.is_enough()? {
            break;
        }
        if !backend.replies.is_empty() && !context.is_session_mode && !message.is_settled(backend)? {
            backend.is_waiting = true;
            next = Next::Answers;
            break;
        }
        Relay { session, backend, out, context }.message(&message)?;
        let taken = message.have.len();
        remember(backend, &input[at..at + taken], taken == frame.len);
        at += taken;
    }
    Ok(Up { taken: at, next })
}

/// Keeps what a transaction began with.
fn remember(backend: &mut Backend, bytes: &[u8], is_whole: bool) {
    let turn = &mut backend.turn;
    if !turn.can_replay {
        return;
    }
    if !is_whole || turn.is_answered || turn.replay.len() + bytes.len() > MAX_REPLAY {
        turn.can_replay = false;
        turn.replay.clear();
    } else {
        turn.replay.extend_from_slice(bytes);
    }
}

/// A message as far as it is there.
struct Message<'a> {
    tag: u8,
    len: usize,
    have: &'a [u8],
}

impl<'a> Message<'a> {
    /// Whether so much of it is there that it can be dealt with.
    fn is_enough(&self) -> Result<bool, WireError> {
        let is_whole = self.have.len() == self.len;
        let too_long = || WireError::Value { message: "a message", what: "more bytes than it may have" };
        match self.tag {
            tag::COPY_DATA | tag::FUNCTION_CALL | tag::COPY_FAIL => Ok(true),
            tag::QUERY => Ok(is_whole || self.len > QUERY_MAX && self.have.len() >= (64 << 10)),
            tag::PARSE if self.len > PARSE_MAX => Err(too_long()),
            // A small one is waited for, so that it can be sent a second time.
            tag::BIND if is_whole || self.len <= NAMES_MAX => Ok(is_whole),
            tag::BIND => match Bind::read_names(self.have.get(HEADER..).unwrap_or_default())? {
                Some(_) => Ok(true),
                None if self.have.len() > NAMES_MAX => Err(too_long()),
                None => Ok(false),
            },
            tag::PARSE => Ok(is_whole),
            _ if self.len > NAMES_MAX => Err(too_long()),
            _ => Ok(is_whole),
        }
    }

    /// Whether what it names does not depend on how a batch ends that is under way.
    fn is_settled(&self, backend: &Backend) -> Result<bool, WireError> {
        let name = match self.tag {
            tag::BIND => Bind::read_names(self.body())?.map(|bind| bind.statement),
            // A Parse without a name depends on nothing.
            tag::PARSE => Some(Parse::read(self.body())?.name).filter(|name| !name.is_empty()),
            tag::DESCRIBE | tag::CLOSE => {
                let target = Target::read(self.body())?;
                (target.kind == b'S').then_some(target.name)
            }
            tag::QUERY => {
                return Ok(self.missing() > 0 || sql::deallocates(self.text()).is_none() || backend.is_settled(false));
            }
            _ => None,
        };
        Ok(name.is_none_or(|name| backend.is_settled(name.is_empty())))
    }

    fn body(&self) -> &'a [u8] {
        &self.have[HEADER..]
    }

    /// The text of a simple query.
    fn text(&self) -> &'a [u8] {
        self.body().strip_suffix(&[0]).unwrap_or(self.body())
    }

    fn missing(&self) -> usize {
        self.len - self.have.len()
    }
}

struct Relay<'r, 'c> {
    session: &'r mut Session,
    backend: &'r mut Backend,
    out: &'r mut Vec<u8>,
    context: &'r mut Context<'c>,
}

impl Relay<'_, '_> {
    fn message(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        if self.backend.copy_in {
            return self.while_copying(message);
        }
        if self.backend.is_failed && message.tag != tag::SYNC {
            // The server would pass it over.
            self.session.dropping = message.missing();
            return Ok(());
        }
        if self.context.is_session_mode {
            return self.as_it_is(message);
        }
        match message.tag {
            tag::QUERY => self.query(message),
            tag::PARSE => self.parse(message),
            tag::BIND => self.bind(message),
            tag::DESCRIBE => self.describe(message),
            tag::EXECUTE => self.execute(message),
            tag::CLOSE => self.close(message),
            _ => self.as_it_is(message),
        }
    }

    /// What is not looked into.
    fn as_it_is(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let reply = match message.tag {
            tag::SYNC => {
                self.backend.is_failed = false;
                self.backend.in_batch = false;
                Some(Reply::Sync)
            }
            tag::FUNCTION_CALL => {
                self.backend.turn.can_replay = false;
                Some(Reply::Call)
            }
            tag::COPY_DONE | tag::COPY_FAIL => Some(Reply::CopyEnd),
            tag::FLUSH | tag::COPY_DATA => None,
            tag::QUERY => {
                self.backend.in_batch = false;
                let text = message.text();
                Some(Reply::Query(self.measure(&sql::scan(text), text)))
            }
            tag::PARSE => {
                self.context.cells.client_parses.inc();
                self.context.cells.server_parses.inc();
                self.batch(Reply::Parse { id: None, name: None, is_silent: false })
            }
            tag::BIND => {
                self.context.cells.binds.inc();
                self.batch(Reply::Bind)
            }
            tag::DESCRIBE => self.batch(Reply::Describe),
            tag::EXECUTE => self.batch(Reply::Execute(Measure::new(self.context.now, 0, None))),
            tag::CLOSE => self.batch(Reply::Close),
            _ => return Err(WireError::Value { message: "a message", what: "a tag that clients do not send" }),
        };
        self.backend.turn.only_begun = false;
        self.backend.replies.extend(reply);
        self.pass(message);
        Ok(())
    }

    /// A message of a batch that a Sync is to end.
    fn batch(&mut self, reply: Reply) -> Option<Reply> {
        self.backend.in_batch = true;
        Some(reply)
    }

    /// Has an answer waited for to a message of a batch.
    fn expect(&mut self, reply: Reply) {
        self.backend.in_batch = true;
        self.backend.turn.only_begun = false;
        self.backend.replies.push_back(reply);
    }

    fn pass(&mut self, message: &Message<'_>) {
        self.out.extend_from_slice(message.have);
        self.session.passing = message.missing();
    }

    /// The server takes data: it passes Flush and Sync over, and nothing else may come.
    fn while_copying(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        match message.tag {
            tag::COPY_DATA | tag::FLUSH => {}
            tag::SYNC => self.backend.has_loose_sync = true,
            tag::COPY_DONE | tag::COPY_FAIL => self.backend.copy_in = false,
            _ => return Err(WireError::Value { message: "a message", what: "no place within the data of a COPY" }),
        }
        self.backend.turn.can_replay = false;
        self.pass(message);
        Ok(())
    }

    fn query(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let is_whole = message.missing() == 0;
        let text = if is_whole { frontend::query_text(message.body())? } else { message.body() };
        let mut scan = sql::scan(text);
        // The server drops it, so that whoever binds it gets the error that is due; unless the query is passed over.
        let before = self.session.unnamed.take();
        self.backend.unnamed = if self.backend.in_batch { Unnamed::Unsure } else { Unnamed::Nothing };
        if self.backend.in_batch {
            self.backend.replies.push_back(Reply::Forgets(before));
        }
        let is_first = self.backend.is_at_rest() && self.backend.turn.statements == 0;
        let rewritten = if is_whole && scan.touches.has(Touches::DEALLOCATE) { self.deallocate(text) } else { None };
        let measure = self.measure(&scan, text);
        self.backend.replies.push_back(Reply::Query(measure));
        self.backend.in_batch = false;
        if let Some(failure) = refusal(scan.touches, self.context) {
            frontend::put_query(self.out, &failing(&failure));
            self.session.dropping = message.missing();
            return Ok(());
        }
        if self.backend.turn.is_lost && scan.kind == Kind::Commit {
            // PostgreSQL rolls back and says so in a tag that few look at; here nobody may have heard of the loss.
            let text = [b"ROLLBACK; ".as_slice(), &failing(&lost())].concat();
            frontend::put_query(self.out, &text);
            self.session.dropping = message.missing();
            self.backend.turn.can_replay = false;
            return Ok(());
        }
        if !is_whole {
            // What stands behind is not seen.
            scan.touches |= Touches::OPAQUE;
        }
        self.touched(&scan, text);
        self.backend.turn.only_begun = is_first && scan.kind == Kind::Begin && sql::is_plain_begin(text);
        match rewritten {
            Some(rewritten) => frontend::put_query(self.out, &rewritten),
            None => self.pass(message),
        }
        Ok(())
    }

    /// Takes down what a statement does to its session, and whether it may be sent a second time.
    fn touched(&mut self, scan: &Scan, text: &[u8]) {
        let turn = &mut self.backend.turn;
        turn.statements += u64::from(scan.statements);
        turn.only_begun = false;
        if matches!(scan.kind, Kind::Create | Kind::Alter | Kind::Drop | Kind::Other) {
            // Some of these do not happen as a whole or not at all.
            turn.can_replay = false;
        }
        if scan.touches.is_empty() {
            return;
        }
        turn.touches |= scan.touches;
        if scan.touches.has_any(Touches::OPAQUE | Touches::COPY | Touches::END) {
            turn.can_replay = false;
        }
        if scan.touches.has_any(Touches::BEGIN | Touches::END) {
            // "BEGIN; ...; COMMIT" leaves nothing open, "COMMIT AND CHAIN" and "COMMIT; BEGIN" do.
            let closes = scan.touches.has(Touches::END) && scan.kind == Kind::Begin;
            turn.leaves_open = Some(scan.touches.has(Touches::BEGIN) && !closes);
        }
        self.backend.is_sweeping |= scan.touches.has_any(Touches::DEALLOCATE | Touches::DISCARD);
        if scan.touches.has_any(settings() | Touches::DISCARD) {
            let changed = sql::settings(text);
            turn.all_names |= changed.all;
            turn.is_unseen |= changed.unknown;
            turn.names.extend(changed.names);
            turn.names.sort_unstable();
            turn.names.dedup();
        }
    }

    fn measure(&mut self, scan: &Scan, text: &[u8]) -> Measure {
        let cells = self.context.table.entry(self.context.group, scan.fingerprint, text);
        Measure::new(self.context.now, scan.fingerprint, Some(cells))
    }

    /// `DEALLOCATE` of a statement that the client has prepared by the protocol, under the name that the server knows.
    fn deallocate(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let Some(Deallocate::Name(name)) = sql::deallocates(text) else { return None };
        let Some(statement) = self.session.statements.get(&*name).cloned() else {
            // What the pooler left there under this name is not the client's.
            let is_litter = self.backend.litter.iter().any(|left| **left == *name);
            return is_litter.then(|| [&b"DEALLOCATE \""[..], &doubled(&name), b"?\""].concat());
        };
        if !self.backend.known.touch(statement.id) {
            if self.backend.in_batch {
                // It cannot be prepared without an end to the batch. The server says that there is none.
                return None;
            }
            self.put_parse(&statement, None);
            self.backend.replies.push_back(Reply::Quiet);
            frontend::put_sync(self.out);
        }
        let mut room = [0; 24];
        let rewritten = [b"DEALLOCATE ", statement.name(&mut room)].concat();
        self.backend.known.remove(statement.id);
        self.backend.turn.can_replay = false;
        let taken = self.session.statements.remove_entry(&*name);
        self.backend.deallocating = taken.map(|(name, statement)| Deallocating { name, statement, is_there: true });
        Some(rewritten)
    }

    fn parse(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let parse = Parse::read(message.body())?;
        self.context.cells.client_parses.inc();
        if parse.name.is_empty() {
            let statement = self.allowed(parse.text, parse.types)?;
            self.context.cells.server_parses.inc();
            let before = self.session.unnamed.replace(statement.clone());
            self.expect(Reply::Unnamed { before, is_silent: false });
            frontend::put_parse(self.out, b"", &statement.text, &statement.types);
            self.backend.unnamed = Unnamed::Is(statement);
            return Ok(());
        }
        if self.session.statements.contains_key(parse.name) {
            self.name_is_taken(&parse);
            return Ok(());
        }
        let statement = if self.session.statements.len() >= MAX_NAMES {
            let failure = Failure::new("53400", format!("{MAX_NAMES} prepared statements are open in this session"))
                .hint("close those that are not used any more");
            self.intern(&failing(&failure), parse.types)?
        } else {
            self.allowed(parse.text, parse.types)?
        };
        let name: Box<[u8]> = parse.name.into();
        self.session.statements.insert(name.clone(), statement.clone());
        if self.backend.known.touch(statement.id) {
            self.expect(Reply::Parsed { name });
        } else {
            self.put_parse(&statement, Some(name));
        }
        Ok(())
    }

    /// The statement of this text, which was looked through when it was first seen; or, if it is refused, one that says so.
    fn allowed(&mut self, text: &[u8], types: &[u8]) -> Result<Arc<Statement>, WireError> {
        let statement = self.intern(text, types)?;
        match refusal(statement.scan.touches, self.context) {
            Some(failure) => self.intern(&failing(&failure), types),
            None => Ok(statement),
        }
    }

    fn intern(&self, text: &[u8], types: &[u8]) -> Result<Arc<Statement>, WireError> {
        self.context.statements.intern(text, types).map_err(|NoRoom| WireError::Value {
            message: "Parse",
            what: "no room: the texts of all prepared statements take up what they may",
        })
    }

    /// The client has prepared another statement under this name: the server is brought to say so in its own words.
    fn name_is_taken(&mut self, parse: &Parse<'_>) {
        let name = match parse.name.starts_with(PREFIX) {
            true => Cow::Owned([parse.name, b"!"].concat()),
            false => Cow::Borrowed(parse.name),
        };
        for is_silent in [true, false] {
            self.expect(Reply::Parse { id: None, name: None, is_silent });
            frontend::put_parse(self.out, &name, b"", &[]);
        }
        // Sent a second time, it would not be taken any more.
        self.backend.turn.can_replay = false;
        if !self.backend.litter.iter().any(|left| **left == *name) {
            self.backend.litter.push(name.into());
        }
    }

    /// Prepares a statement at this server.
    fn put_parse(&mut self, statement: &Arc<Statement>, name: Option<Box<[u8]>>) {
        let mut room = [0; 24];
        if let Some(old) = self.backend.known.make_room(self.context.max_prepared) {
            frontend::put_close(self.out, b'S', old.name(&mut room));
            self.expect(Reply::Evict(old));
        }
        let is_silent = name.is_none();
        self.context.cells.server_parses.inc();
        if is_silent {
            self.backend.story.prepared(self.context.now);
        }
        self.expect(Reply::Parse { id: Some(statement.id), name, is_silent });
        frontend::put_parse(self.out, statement.name(&mut room), &statement.text, &statement.types);
        self.backend.known.insert(statement);
    }

    /// Sees to it that a statement is prepared at this server.
    fn ensure(&mut self, statement: &Arc<Statement>) {
        if !self.backend.known.touch(statement.id) {
            self.put_parse(statement, None);
        }
    }

    /// Sees to it that the unnamed statement at this server is the client's.
    fn ensure_unnamed(&mut self) {
        match (&self.session.unnamed, &self.backend.unnamed) {
            (None, Unnamed::Nothing) => return,
            (Some(wanted), Unnamed::Is(found)) if Arc::ptr_eq(wanted, found) => return,
            _ => {}
        }
        match self.session.unnamed.clone() {
            Some(statement) => {
                self.context.cells.server_parses.inc();
                self.backend.story.prepared(self.context.now);
                self.expect(Reply::Unnamed { before: None, is_silent: true });
                frontend::put_parse(self.out, b"", &statement.text, &statement.types);
                self.backend.unnamed = Unnamed::Is(statement);
            }
            None => {
                self.expect(Reply::CloseUnnamed { before: None, is_silent: true });
                frontend::put_close(self.out, b'S', b"");
                self.backend.unnamed = Unnamed::Nothing;
            }
        }
    }

    /// The name at the server of what the client calls `name`.
    fn server_name<'n>(&mut self, name: &'n [u8], room: &'n mut [u8; 24]) -> (Cow<'n, [u8]>, Option<Arc<Statement>>) {
        if name.is_empty() {
            self.ensure_unnamed();
            return (Cow::Borrowed(name), self.session.unnamed.clone());
        }
        match self.session.statements.get(name).cloned() {
            Some(statement) => {
                self.ensure(&statement);
                (Cow::Borrowed(statement.name(room)), Some(statement))
            }
            // The server says that there is none, by the name that the client knows, unless that is one of the pooler's
            // or one that it left there.
            None if name.starts_with(PREFIX) || self.backend.litter.iter().any(|left| **left == *name) => {
                (Cow::Owned([name, b"?"].concat()), None)
            }
            None => (Cow::Borrowed(name), None),
        }
    }

    fn bind(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let body = message.body();
        let Some(bind) = Bind::read_names(body)? else {
            return Err(WireError::Value { message: "Bind", what: "no names" });
        };
        let mut room = [0; 24];
        let (mut name, mut statement) = self.server_name(bind.statement, &mut room);
        if self.backend.turn.is_lost && statement.as_ref().is_some_and(|s| s.scan.kind == Kind::Commit) {
            // As for a simple query; what fails in a failed transaction leaves it failed, to be rolled back.
            let instead = self.intern(&failing(&lost()), &[0, 0])?;
            self.ensure(&instead);
            name = Cow::Owned(instead.name(&mut [0; 24]).to_vec());
            statement = Some(instead);
        }
        if *name == *bind.statement {
            self.out.extend_from_slice(message.have);
        } else {
            let total = message.len - HEADER - bind.statement.len() + name.len();
            frontend::put_bind_header(self.out, total, bind.portal, &name);
            self.out.extend_from_slice(&body[bind.rest_at..]);
        }
        self.session.passing = message.missing();
        if let Some(statement) = &statement {
            // Which portal an Execute runs is not followed: what was bound counts as run.
            self.touched(&statement.scan, &statement.text);
        }
        self.session.bound = statement;
        self.context.cells.binds.inc();
        self.expect(Reply::Bind);
        Ok(())
    }

    fn describe(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let target = Target::read(message.body())?;
        if target.kind == b'S' {
            let mut room = [0; 24];
            let (name, _statement) = self.server_name(target.name, &mut room);
            frontend::put_describe(self.out, b'S', &name);
        } else {
            self.pass(message);
        }
        self.expect(Reply::Describe);
        Ok(())
    }

    fn execute(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let measure = match self.session.bound.clone() {
            Some(statement) => self.measure(&statement.scan, &statement.text),
            None => Measure::new(self.context.now, 0, None),
        };
        self.expect(Reply::Execute(measure));
        self.pass(message);
        Ok(())
    }

    fn close(&mut self, message: &Message<'_>) -> Result<(), WireError> {
        let target = Target::read(message.body())?;
        if target.kind == b'S' && !target.name.is_empty() {
            let was = self.session.statements.remove_entry(target.name);
            if was.is_some() {
                // Sent a second time, it would be missed before its place.
                self.backend.turn.can_replay = false;
            }
            self.expect(Reply::Closed { was });
            return Ok(());
        }
        if target.kind == b'S' {
            let before = self.session.unnamed.take();
            self.expect(Reply::CloseUnnamed { before, is_silent: false });
            self.backend.unnamed = Unnamed::Nothing;
        } else {
            self.expect(Reply::Close);
        }
        self.pass(message);
        Ok(())
    }
}

/// A name with its quotes doubled.
fn doubled(name: &[u8]) -> Vec<u8> {
    name.iter().flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'"'))).collect()
}
