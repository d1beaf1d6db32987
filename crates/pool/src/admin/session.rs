//! One client of the console: messages in, answers out, in the simple and in the extended protocol.

use std::collections::{HashMap, VecDeque};

use super::AdminNode;
use super::answer::{Done, columns, put_done, rows_tag};
use super::command::{self, Command, Refusal};
use super::table::{Formats, Table, put_columns, put_row};
use super::{ordering, settings, show};
use crate::wire::backend::{
    put_bind_complete, put_close_complete, put_command_complete, put_empty_query, put_error, put_no_data,
    put_parameter_description, put_parse_complete, put_ready,
};
use crate::wire::frontend::{Bind, Execute, Parse, Target, query_text};
use crate::wire::{WireError, tag};

/// Statements, and portals, that a session may have at once.
pub(super) const PREPARED_MAX: usize = 256;

/// One client of the console.
#[derive(Debug)]
pub struct AdminSession {
    may_order: bool,
    /// As in ReadyForQuery: `I`, `T` or `E`. There are no transactions here; drivers want to see them.
    status: u8,
    /// An extended message failed: the others are skipped up to Sync.
    is_skipping: bool,
    statements: HashMap<Vec<u8>, Option<Command>>,
    portals: HashMap<Vec<u8>, Portal>,
    /// What is left of a simple query.
    rest: VecDeque<Command>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Portal {
    command: Option<Command>,
    formats: Formats,
    /// What it found, and how much of that was sent.
    found: Option<(Table, usize)>,
}

/// A pause that is not complete.
#[derive(Debug)]
struct Waiting {
    pools: Vec<String>,
    is_simple: bool,
}

impl AdminSession {
    /// A session of somebody who may give orders, or only look.
    pub fn new(may_order: bool) -> AdminSession {
        AdminSession {
            may_order,
            status: b'I',
            is_skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            rest: VecDeque::new(),
            waiting: None,
        }
    }

    /// Whether it waits for a pause, and takes no messages.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a message and appends the answer. `false`: the connection is over once that is sent.
    pub fn message(&mut self, tag: u8, body: &[u8], node: &dyn AdminNode, out: &mut Vec<u8>) -> bool {
        match self.take(tag, body, node, out) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                put_error(out, "FATAL", error.sqlstate(), &error.to_string(), None, None);
                false
            }
        }
    }

    /// Looks whether the pause that it waits for is complete, and if so answers and goes on.
    pub fn poll(&mut self, node: &dyn AdminNode, out: &mut Vec<u8>) {
        let Some(waiting) = &self.waiting else { return };
        let pools = node.pools();
        let of = || pools.iter().filter(|pool| waiting.pools.contains(&pool.name));
        let resumed = of().find(|pool| !pool.is_paused).map(|pool| pool.name.clone());
        let is_busy = of().any(|pool| pool.groups.iter().any(|group| group.servers_active > 0));
        if resumed.is_none() && is_busy {
            return;
        }
        let is_simple = waiting.is_simple;
        self.waiting = None;
        match resumed {
            None => put_command_complete(out, "PAUSE"),
            Some(name) => {
                let message = format!("pool {name} was resumed before the pause was complete");
                self.refuse(&Refusal::new("57014", message), is_simple, out);
            }
        }
        if is_simple {
            self.go_on(node, out);
        }
    }

    fn take(&mut self, tag: u8, body: &[u8], node: &dyn AdminNode, out: &mut Vec<u8>) -> Result<bool, WireError> {
        match tag {
            tag::TERMINATE => return Ok(false),
            tag::SYNC => {
                self.is_skipping = false;
                self.portals.clear();
                put_ready(out, self.status);
            }
            _ if self.is_skipping => {}
            tag::QUERY => {
                self.portals.clear();
                match command::read(query_text(body)?) {
                    Ok(commands) if commands.is_empty() => {
                        put_empty_query(out);
                        put_ready(out, self.status);
                    }
                    Ok(commands) => {
                        self.rest = commands.into();
                        self.go_on(node, out);
                    }
                    Err(refusal) => {
                        self.refuse(&refusal, true, out);
                        put_ready(out, self.status);
                    }
                }
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                let done = match tag {
                    tag::PARSE => self.parse(&Parse::read(body)?, out),
                    tag::BIND => self.bind(body, out)?,
                    tag::DESCRIBE => self.describe(&Target::read(body)?, out),
                    tag::EXECUTE => self.execute(&Execute::read(body)?, node, out),
                    _ => {
                        self.close(&Target::read(body)?, out);
                        Ok(())
                    }
                };
                if let Err(refusal) = done {
                    self.refuse(&refusal, false, out);
                }
            }
            // Nothing is held back, and what belongs to a COPY is ignored outside one, as PostgreSQL does.
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
            tag::FUNCTION_CALL => {
                self.refuse(&Refusal::new("0A000", "there are no functions here"), true, out);
                put_ready(out, self.status);
            }
            _ => return Err(WireError::Value { message: "a message", what: "a tag that is not known" }),
        }
        Ok(true)
    }

    fn refuse(&mut self, refusal: &Refusal, is_simple: bool, out: &mut Vec<u8>) {
        put_error(out, "ERROR", refusal.sqlstate, &refusal.message, None, refusal.hint.as_deref());
        self.rest.clear();
        self.is_skipping = !is_simple;
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    /// Runs what is left of a simple query.
    fn go_on(&mut self, node: &dyn AdminNode, out: &mut Vec<u8>) {
        while let Some(command) = self.rest.pop_front() {
            match self.run(&command, node) {
                Ok(Done::Rows(table)) => {
                    put_columns(out, table.columns, &Formats::default());
                    table.rows.iter().for_each(|row| put_row(out, table.columns, row, &Formats::default()));
                    put_command_complete(out, rows_tag(&command));
                }
                Ok(Done::Pausing(pools)) => {
                    self.waiting = Some(Waiting { pools, is_simple: true });
                    // Complete at once if nobody has a connection; what is left runs from there.
                    return self.poll(node, out);
                }
                Ok(done) => put_done(&done, out),
                Err(refusal) => self.refuse(&refusal, true, out),
            }
        }
        put_ready(out, self.status);
    }

    fn run(&mut self, command: &Command, node: &dyn AdminNode) -> Result<Done, Refusal> {
        if self.status == b'E' && !matches!(command, Command::End(_)) {
            return Err(Refusal::new("25P02", "an error came before: ROLLBACK first"));
        }
        Ok(match command {
            Command::Show(shown) => Done::Rows(show::table(*shown, node)),
            Command::Setting(_, value) => {
                Done::Rows(Table { columns: columns(command), rows: vec![vec![(*value).into()]] })
            }
            Command::SelectOne => Done::Rows(Table { columns: columns(command), rows: vec![vec![1u32.into()]] }),
            Command::Help => Done::Help,
            Command::Set(tag, Some(name)) if is_configured(name, node) => {
                let message = format!("{name} is not changed by {tag}");
                return Err(Refusal::new("55P02", message).hint("Change the configuration file, then RELOAD."));
            }
            Command::Set(tag, _) => Done::Tag(tag, Some("it has no effect here")),
            Command::Begin => {
                self.status = b'T';
                Done::Tag("BEGIN", None)
            }
            Command::End(tag) => {
                let tag = if self.status == b'E' { "ROLLBACK" } else { tag };
                self.status = b'I';
                Done::Tag(tag, None)
            }
            order if !self.may_order => {
                let message = format!("{} is for administrators", ordering::word(order));
                return Err(Refusal::new("42501", message).hint("`admin_users` of the pool says who they are."));
            }
            order => ordering::run(order, node)?,
        })
    }

    fn parse(&mut self, parse: &Parse<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut commands = command::read(parse.text)?;
        if commands.len() > 1 {
            return Err(Refusal::new("42601", "a prepared statement is one command"));
        }
        if !parse.name.is_empty() {
            if self.statements.contains_key(parse.name) {
                return Err(Refusal::new("42P05", "there is a prepared statement of that name"));
            }
            if self.statements.len() >= PREPARED_MAX {
                return Err(Refusal::new("54000", format!("a session has at most {PREPARED_MAX} prepared statements")));
            }
        }
        self.statements.insert(parse.name.to_vec(), commands.pop());
        put_parse_complete(out);
        Ok(())
    }

    fn bind(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Result<(), Refusal>, WireError> {
        const SHORT: WireError = WireError::Short { message: "Bind" };
        let bind = Bind::read_names(body)?.ok_or(SHORT)?;
        let mut rest = body.get(bind.rest_at..).ok_or(SHORT)?;
        let mut take = || -> Result<u16, WireError> {
            let (field, after) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
            rest = after;
            Ok(u16::from_be_bytes(*field))
        };
        for _ in 0..take()? {
            take()?;
        }
        if take()? > 0 {
            return Ok(Err(Refusal::new("08P01", "a command takes no parameters")));
        }
        let formats = (0..take()?).map(|_| take()).collect::<Result<Vec<u16>, _>>()?;
        if !rest.is_empty() {
            return Err(WireError::Trailing { message: "Bind" });
        }
        Ok(self.bound(&bind, Formats(formats), out))
    }

    fn bound(&mut self, bind: &Bind<'_>, formats: Formats, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let command = self.statement(bind.statement)?.clone();
        if !formats.fits(command.as_ref().map_or(&[][..], columns).len()) {
            return Err(Refusal::new("08P01", "the formats do not fit the columns"));
        }
        if self.portals.len() >= PREPARED_MAX && !self.portals.contains_key(bind.portal) {
            return Err(Refusal::new("54000", format!("a session has at most {PREPARED_MAX} portals")));
        }
        self.portals.insert(bind.portal.to_vec(), Portal { command, formats, found: None });
        put_bind_complete(out);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Option<Command>, Refusal> {
        self.statements.get(name).ok_or_else(|| Refusal::new("26000", "there is no prepared statement of that name"))
    }

    fn describe(&mut self, target: &Target<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let text = Formats::default();
        let (command, formats) = if target.kind == b'S' {
            let command = self.statement(target.name)?;
            put_parameter_description(out, &[]);
            (command, &text)
        } else {
            let portal = self.portals.get(target.name).ok_or_else(no_portal)?;
            (&portal.command, &portal.formats)
        };
        match command.as_ref().map_or(&[][..], columns) {
            [] => put_no_data(out),
            columns => put_columns(out, columns, formats),
        }
        Ok(())
    }

    fn execute(&mut self, execute: &Execute<'_>, node: &dyn AdminNode, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut portal = self.portals.remove(execute.portal).ok_or_else(no_portal)?;
        let Some(command) = portal.command.clone() else {
            put_empty_query(out);
            return Ok(());
        };
        if portal.found.is_none() {
            match self.run(&command, node)? {
                Done::Rows(table) => portal.found = Some((table, 0)),
                Done::Pausing(pools) => {
                    self.waiting = Some(Waiting { pools, is_simple: false });
                    self.poll(node, out);
                }
                done => put_done(&done, out),
            }
        }
        if let Some((table, sent)) = &mut portal.found {
            let most = usize::try_from(execute.max_rows).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
            for row in table.rows.iter().skip(*sent).take(most) {
                put_row(out, table.columns, row, &portal.formats);
            }
            *sent = sent.saturating_add(most).min(table.rows.len());
            if *sent < table.rows.len() {
                out.extend_from_slice(&[tag::PORTAL_SUSPENDED, 0, 0, 0, 4]);
            } else {
                put_command_complete(out, rows_tag(&command));
            }
        }
        self.portals.insert(execute.portal.to_vec(), portal);
        Ok(())
    }

    fn close(&mut self, target: &Target<'_>, out: &mut Vec<u8>) {
        if target.kind == b'S' {
            self.statements.remove(target.name);
        } else {
            self.portals.remove(target.name);
        }
        put_close_complete(out);
    }
}

fn no_portal() -> Refusal {
    Refusal::new("34000", "there is no portal of that name")
}

/// Whether `SHOW CONFIG` has it.
fn is_configured(name: &str, node: &dyn AdminNode) -> bool {
    settings::all(&node.plans()).iter().any(|(key, _)| *key == name)
}
