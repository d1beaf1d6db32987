//! The relay without sockets: scripts of what each side sends and gets, run whole and split at every byte; and random
//! pipelines through it beside the same ones to a server directly.

mod batches;
mod copies;
mod model;
mod names;

use std::sync::Arc;

use kernel::Moment;

use super::Context;
use super::down::{Below, down, put_due};
use super::tell::{Peer, Teller};
use super::up::{Next, up};
use crate::backend::Backend;
use crate::pairs::{Interner, Pairs};
use crate::plan::SessionState;
use crate::session::Session;
use crate::statements::Statements;
use crate::stats::story::Stories;
use crate::stats::{GroupCells, StatementTable};
use crate::wire::backend as told;
use crate::wire::{HEADER, frame, frontend, tag};

/// A client, a connection and the relay between.
pub(super) struct Bench {
    pub(super) session: Session,
    pub(super) backend: Backend,
    shared: Shared,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    /// Who has got what.
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    is_rewinding: bool,
    /// Marks of what the relay said.
    pub(super) marks: Vec<&'static str>,
}

/// What is everybody's.
pub(super) struct Shared {
    statements: Statements,
    table: StatementTable,
    group: u32,
    cells: GroupCells,
    stories: Stories,
    server: Arc<str>,
    interner: Interner,
    pub(super) max_prepared: usize,
    pub(super) is_session_mode: bool,
}

impl Shared {
    pub(super) fn new() -> Shared {
        let mut table = StatementTable::new(100);
        let group = table.group("d", "u");
        Shared {
            statements: Statements::default(),
            table,
            group,
            cells: GroupCells::default(),
            stories: Stories::new(0, 0),
            server: Arc::from("server"),
            interner: Interner::default(),
            max_prepared: 100,
            is_session_mode: false,
        }
    }

    fn context(&mut self) -> (Context<'_>, &GroupCells, &mut Interner, Teller<'_>) {
        let context = Context {
            statements: &self.statements,
            table: &mut self.table,
            group: self.group,
            now: Moment::ZERO,
            session_state: SessionState::Track,
            is_statement_mode: false,
            is_session_mode: self.is_session_mode,
            may_pin: true,
            max_prepared: self.max_prepared,
            cells: &self.cells,
            was_pinned_out: false,
        };
        let teller = Teller {
            stories: &self.stories,
            pool: "p",
            database: "d",
            user: "u",
            peer: Peer(None),
            slow: None,
            server: &self.server,
            process: 1,
        };
        (context, &self.cells, &mut self.interner, teller)
    }

    pub(super) fn up(
        &mut self,
        session: &mut Session,
        backend: &mut Backend,
        input: &mut Vec<u8>,
    ) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut due) = (Vec::new(), Vec::new());
        loop {
            let done = up(session, backend, input, &mut out, &mut self.context().0).unwrap();
            input.drain(..done.taken);
            let is_due = backend.replies.iter().all(|r| {
                use crate::backend::Reply;
                matches!(r, Reply::Parsed { .. } | Reply::Closed { .. } | Reply::CopyEnd)
            });
            if is_due {
                put_due(backend, &mut due);
                backend.turn.is_answered |= !due.is_empty();
            }
            if done.taken == 0 || done.next == Next::Answers {
                return (out, due);
            }
        }
    }
}

impl Bench {
    pub(super) fn new() -> Bench {
        let mut shared = Shared::new();
        let nothing = shared.interner.intern(Pairs::default());
        let mut backend = Backend::new(nothing.clone(), nothing.clone());
        backend.turn.begin(Moment::ZERO, None);
        Bench {
            session: Session::new(nothing.clone(), nothing),
            backend,
            shared,
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_client: Vec::new(),
            to_server: Vec::new(),
            is_rewinding: false,
            marks: Vec::new(),
        }
    }

    /// The client, now, is at another connection that knows nothing.
    pub(super) fn elsewhere(&mut self) {
        let nothing = self.shared.interner.intern(Pairs::default());
        self.backend = Backend::new(nothing.clone(), nothing);
        self.backend.turn.begin(Moment::ZERO, self.session.unnamed.clone());
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        self.from_client.extend_from_slice(bytes);
        self.go_up();
    }

    fn go_up(&mut self) {
        let (out, due) = self.shared.up(&mut self.session, &mut self.backend, &mut self.from_client);
        self.to_server.extend(out);
        self.to_client.extend(due);
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        self.from_server.extend_from_slice(bytes);
        loop {
            let (mut context, cells, interner, teller) = self.shared.context();
            let is_rewinding = &mut self.is_rewinding;
            let mut below = Below { context: &mut context, cells, interner, is_rewinding, teller: &teller };
            let session = Some(&mut self.session);
            let done = down(session, &mut self.backend, &self.from_server, &mut self.to_client, &mut below).unwrap();
            self.from_server.drain(..done.taken);
            if done.again {
                self.marks.push("again");
            }
            if done.is_over {
                self.marks.push("over");
                self.backend.turn.begin(Moment::ZERO, self.session.unnamed.clone());
            }
            if self.is_rewinding && !self.backend.replies.is_empty() {
                self.backend.replies.clear();
            }
            self.go_up();
            if done.taken == 0 || self.from_server.is_empty() {
                return;
            }
        }
    }
}

/// One step of a script, in the words of [`front`] and [`back`]: who sends what, what the server gets, what the client gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// The client sends; the server gets; the client gets.
    Up(&'static str, &'static str, &'static str),
    /// The server sends; the client gets; the relay says.
    Down(&'static str, &'static str, &'static str),
    /// The client goes on at another connection.
    Elsewhere,
}
pub(super) use Step::{Down, Elsewhere, Up};

/// Runs a script whole, byte by byte, and with each step split at each byte. Where it is split, what is answered here may be
/// told earlier, but not in another order.
#[track_caller]
pub(super) fn script(steps: &[Step]) {
    script_with(steps, |_| ());
}

#[track_caller]
pub(super) fn script_with(steps: &[Step], prepare: impl Fn(&mut Shared)) {
    run(steps, &prepare, |_, bytes| vec![bytes.len()]);
    run(steps, &prepare, |_, bytes| (1..=bytes.len()).collect());
    for (at, step) in steps.iter().enumerate() {
        let length = match step {
            Up(sent, ..) => front(sent).len(),
            Down(sent, ..) => back(sent).len(),
            Elsewhere => 0,
        };
        for split in 1..length {
            run(steps, &prepare, |step, bytes| if step == at { vec![split, bytes.len()] } else { vec![bytes.len()] });
        }
    }
}

#[track_caller]
fn run(steps: &[Step], prepare: &impl Fn(&mut Shared), ends: impl Fn(usize, &[u8]) -> Vec<usize>) {
    let mut bench = Bench::new();
    let mut all: [[String; 3]; 2] = Default::default();
    prepare(&mut bench.shared);
    for (at, step) in steps.iter().enumerate() {
        let (sent, is_up, server, client, marks) = match step {
            Up(sent, server, client) => (front(sent), true, *server, *client, ""),
            Down(sent, client, marks) => (back(sent), false, "", *client, *marks),
            Elsewhere => {
                bench.elsewhere();
                continue;
            }
        };
        let ends = ends(at, &sent);
        let mut from = 0;
        for end in &ends {
            match is_up {
                true => bench.client_sends(&sent[from..*end]),
                false => bench.server_sends(&sent[from..*end]),
            }
            from = *end;
        }
        let got =
            (shown(&std::mem::take(&mut bench.to_server), true), shown(&std::mem::take(&mut bench.to_client), false));
        let got = (got.0, got.1, std::mem::take(&mut bench.marks).join(" "));
        let expected = [server, client, marks].map(str::to_owned);
        let got: [String; 3] = got.into();
        if ends.len() == 1 && all[0] == all[1] {
            assert_eq!(got, expected, "step {at}, {step:?}");
        }
        for (sum, one) in all.iter_mut().zip([got, expected]) {
            sum.iter_mut()
                .zip(one)
                .filter(|(_, one)| !one.is_empty())
                .for_each(|(sum, one)| *sum += &format!(" / {one}"));
        }
        assert!(ends.len() > 1 || all[0] == all[1] || at + 1 < steps.len(), "{all:#?}");
    }
    assert_eq!(all[0], all[1]);
}

fn name(word: Option<&str>) -> &[u8] {
    word.filter(|w| *w != "_").unwrap_or_default().as_bytes()
}

/// A client's messages: `P name text / B portal statement / D S name / E portal / S / H / C S name / Q text / d data / c / f`.
pub(super) fn front(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for one in text.split(" / ").filter(|one| !one.is_empty()) {
        let (head, rest) = one.split_once(' ').unwrap_or((one, ""));
        let mut words = rest.splitn(2, ' ');
        let (first, second) = (words.next(), words.next());
        match head {
            "P" => frontend::put_parse(&mut out, name(first), second.unwrap_or_default().as_bytes(), &[]),
            "B" => frontend::put_bind(
                &mut out,
                std::str::from_utf8(name(first)).unwrap().as_bytes(),
                name(second),
                &[Some("v")],
            ),
            "D" | "C" if head == "D" => frontend::put_describe(&mut out, first.unwrap().as_bytes()[0], name(second)),
            "C" => frontend::put_close(&mut out, first.unwrap().as_bytes()[0], name(second)),
            "E" => frontend::put_execute(&mut out, name(first), 0),
            "S" => frontend::put_sync(&mut out),
            "H" => frontend::put_flush(&mut out),
            "Q" => frontend::put_query(&mut out, rest.as_bytes()),
            "f" => frontend::put_copy_fail(&mut out, rest),
            "d" | "c" | "F" => raw(&mut out, head.as_bytes()[0], rest.as_bytes()),
            _ => panic!("{one}"),
        }
    }
    out
}

fn raw(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

/// A server's messages: `1 / 2 / 3 / t / T / n / D value / C tag / I / s / E code text / N text / A / S name value / Z I / G / H`.
pub(super) fn back(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for one in text.split(" / ").filter(|one| !one.is_empty()) {
        let (head, rest) = one.split_once(' ').unwrap_or((one, ""));
        match head {
            "1" => told::put_parse_complete(&mut out),
            "2" => told::put_bind_complete(&mut out),
            "3" => told::put_close_complete(&mut out),
            "t" => told::put_parameter_description(&mut out, &[]),
            "T" => told::put_row_description(&mut out, &[("a", 25)]),
            "n" => told::put_no_data(&mut out),
            "D" => told::put_data_row(&mut out, &[Some(rest)]),
            "C" => told::put_command_complete(&mut out, rest),
            "I" => told::put_empty_query(&mut out),
            "E" | "FATAL" => {
                let severity = if head == "E" { "ERROR" } else { "FATAL" };
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                told::put_error(&mut out, severity, code, text, None, None);
            }
            "STALE" => {
                let text =
                    "SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0";
                raw(&mut out, b'E', text.as_bytes());
            }
            "N" => told::put_notice(&mut out, "NOTICE", "00000", rest, None, None),
            "S" => {
                let (name, value) = rest.split_once(' ').unwrap();
                told::put_parameter_status(&mut out, name, value);
            }
            "Z" => told::put_ready(&mut out, rest.as_bytes()[0]),
            "A" | "G" | "H" | "s" | "d" | "c" | "V" => raw(&mut out, head.as_bytes()[0], rest.as_bytes()),
            _ => panic!("{one}"),
        }
    }
    out
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() { "_".into() } else { String::from_utf8_lossy(bytes).into_owned() }
}

/// Messages in the words of [`front`] or [`back`].
pub(super) fn shown(mut bytes: &[u8], is_front: bool) -> String {
    let mut all = Vec::new();
    while let Some(found) = frame(bytes).unwrap() {
        let Some(body) = bytes.get(HEADER..found.len) else { panic!("{all:?}, and a part of {}", found.tag as char) };
        let tag = found.tag as char;
        let rest = match (is_front, found.tag) {
            (true, tag::PARSE) => {
                let parse = frontend::Parse::read(body).unwrap();
                format!("{} {}", text(parse.name), String::from_utf8_lossy(parse.text))
            }
            (true, tag::BIND) => {
                let bind = frontend::Bind::read_names(body).unwrap().unwrap();
                format!("{} {}", text(bind.portal), text(bind.statement))
            }
            (true, tag::DESCRIBE | tag::CLOSE) => {
                let target = frontend::Target::read(body).unwrap();
                format!("{} {}", target.kind as char, text(target.name))
            }
            (true, tag::EXECUTE) => text(frontend::Execute::read(body).unwrap().portal),
            (true, tag::QUERY | tag::COPY_FAIL) | (false, tag::COMMAND_COMPLETE) => {
                String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()
            }
            (false, tag::ERROR) => {
                let fields = told::Fields::read(body).unwrap();
                format!("{} {}", fields.sqlstate(), fields.message())
            }
            (false, tag::NOTICE) => told::Fields::read(body).unwrap().message(),
            (false, tag::PARAMETER_STATUS) => {
                let (name, value) = told::parameter_status(body).unwrap();
                format!("{name} {value}")
            }
            (false, tag::DATA_ROW) => text(told::data_row(body).unwrap()[0].unwrap()),
            (false, tag::ROW_DESCRIPTION | tag::PARAMETER_DESCRIPTION) => String::new(),
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        all.push(format!("{tag} {rest}").trim_end().to_owned());
        bytes = &bytes[found.len..];
    }
    assert!(bytes.is_empty(), "a part of a message is left: {bytes:?}");
    all.join(" / ")
}
