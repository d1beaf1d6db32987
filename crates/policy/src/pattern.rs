//! Patterns for hosts and paths, as they are written in a route. [`crate::route`] says what they match; here is how they
//! are read, matched and compared. A pattern that could match nothing, or that a reader would misread, is an error.

use std::fmt;
use std::str::FromStr;

use crate::path::{self, PathError, write_escaped};

/// The longest pattern that is read, in bytes.
const MAX_PATTERN: usize = 1024;

/// A host, or all hosts below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(String),
    /// All hosts that end so, in lower case, with the leading dot.
    Below(String),
}

/// A path, or all paths of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As it was written.
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    /// In normal form.
    Exact(Box<[u8]>),
    /// In normal form, without a closing slash.
    Prefix(Box<[u8]>),
    /// At least one of the segments is a parameter.
    Template {
        segments: Box<[Segment]>,
        open: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    Parameter,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long to be meant.
    #[error("the pattern has {length} bytes; at most {MAX_PATTERN} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is no host.
    #[error("{text:?} is not a host; write one like shop.example.com or *.example.com, without scheme and port")]
    BadHost {
        /// What was written.
        text: String,
    },
    /// A star alone as a host.
    #[error("the host \"*\" would match every host; leave the host out instead")]
    AnyHost,
    /// It does not begin with a slash.
    #[error("the path {text:?} does not begin with a slash; write \"/{text}\"")]
    NotAbsolute {
        /// What was written.
        text: String,
    },
    /// A character that is in no path.
    #[error(
        "the path {text:?} has {found:?} in it, which is in no path; the query is not matched, and spaces are written %20"
    )]
    BadCharacter {
        /// What was written.
        text: String,
        /// The first such character.
        found: char,
    },
    /// No request has such a path.
    #[error("no request has the path {text:?}: {cause}")]
    Impossible {
        /// What was written.
        text: String,
        /// What is wrong with it.
        #[source]
        cause: PathError,
    },
    /// Slashes follow each other.
    #[error("the path {text:?} has an empty segment; slashes that follow each other count as one, so write one")]
    EmptySegment {
        /// What was written.
        text: String,
    },
    /// A star that is not the last segment.
    #[error(
        "the path {text:?} has a * that is not its last segment; write /a/* for all below /a, or a parameter such as {{id}} for one segment"
    )]
    StrayStar {
        /// What was written.
        text: String,
    },
    /// Braces that are no parameter.
    #[error(
        "the path {text:?} has a brace that is no parameter; a parameter is a whole segment such as {{id}}, of lower-case letters, digits and _, and each name stands once"
    )]
    BadParameter {
        /// What was written.
        text: String,
    },
}

impl HostPattern {
    /// Whether `host` matches, without port and closing dot, in any case.
    #[inline]
    pub fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            HostPattern::Below(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }

    /// Whether it matches every host that `other` matches.
    pub(crate) fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (_, HostPattern::Exact(name)) => self.matches(name.as_bytes()),
            (HostPattern::Below(suffix), HostPattern::Below(other)) => other.ends_with(suffix.as_str()),
            (HostPattern::Exact(_), HostPattern::Below(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<HostPattern, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong { length: text.len() });
        }
        if text == "*" {
            return Err(PatternError::AnyHost);
        }
        let bad = || PatternError::BadHost { text: text.to_owned() };
        if let Some(address) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            return Ok(HostPattern::Exact(text.to_ascii_lowercase()));
        }
        let (name, wild) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(bad());
        }
        let name = name.to_ascii_lowercase();
        Ok(if wild { HostPattern::Below(format!(".{name}")) } else { HostPattern::Exact(name) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl PathPattern {
    /// Whether a path in normal form matches.
    #[inline]
    pub fn matches(&self, normal: &[u8]) -> bool {
        match &self.kind {
            Kind::Any => true,
            Kind::Exact(path) => **path == *normal,
            Kind::Prefix(prefix) => {
                normal.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            }
            Kind::Template { segments, open } => matches_template(segments, *open, normal),
        }
    }

    /// Whether it matches every path.
    pub fn is_any(&self) -> bool {
        self.kind == Kind::Any
    }

    /// As it was written: with its parameters in braces, so there are as many as there are routes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the first parameter or star, in normal form and without closing slash: what a prefix rewrite
    /// would strip. `/a/*` and `/a/{id}` have `/a`, `/*` has the empty prefix, `/a/b` has itself.
    pub fn literal_prefix(&self) -> String {
        let literal = match &self.kind {
            Kind::Any => Vec::new(),
            Kind::Exact(path) => path.strip_suffix(b"/").unwrap_or(path).to_vec(),
            Kind::Prefix(path) => path.to_vec(),
            Kind::Template { segments, .. } => {
                let literals = segments.iter().map_while(|s| match s {
                    Segment::Literal(text) => Some([b"/", &**text].concat()),
                    Segment::Parameter => None,
                });
                literals.collect::<Vec<_>>().concat()
            }
        };
        // The normal form is ASCII: all else was escaped.
        String::from_utf8(literal).unwrap_or_default()
    }

    /// The first segment, if every path that matches has it.
    pub(crate) fn first_literal(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Any => None,
            Kind::Exact(path) | Kind::Prefix(path) => path[1..].split(|b| *b == b'/').next(),
            Kind::Template { segments, .. } => match segments.first() {
                Some(Segment::Literal(text)) => Some(text),
                _ => None,
            },
        }
    }

    /// Whether it matches every path that `other` matches.
    pub(crate) fn covers(&self, other: &PathPattern) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Any, _) => return true,
            (_, Kind::Any) => return false,
            (_, Kind::Exact(path)) => return self.matches(path),
            _ => {}
        }
        let (mine, open) = self.parts();
        let (theirs, other_open) = other.parts();
        let segment = |(mine, theirs): (&Segment, &Segment)| match (mine, theirs) {
            (Segment::Parameter, Segment::Parameter) => true,
            (Segment::Parameter, Segment::Literal(text)) => !text.is_empty(),
            (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
            (Segment::Literal(_), Segment::Parameter) => false,
        };
        let length = if open { theirs.len() >= mine.len() } else { !other_open && theirs.len() == mine.len() };
        length && mine.iter().zip(&theirs).all(segment)
    }

    /// Segments, and whether more may follow.
    fn parts(&self) -> (Vec<Segment>, bool) {
        let literals =
            |path: &[u8]| path[1..].split(|b| *b == b'/').map(|s| Segment::Literal(s.into())).collect::<Vec<_>>();
        match &self.kind {
            Kind::Any => (Vec::new(), true),
            Kind::Exact(path) => (literals(path), false),
            Kind::Prefix(path) => (literals(path), true),
            Kind::Template { segments, open } => (segments.to_vec(), *open),
        }
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<PathPattern, PatternError> {
        let own = || text.to_owned();
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong { length: text.len() });
        }
        let Some(rest) = text.strip_prefix('/') else { return Err(PatternError::NotAbsolute { text: own() }) };
        let is_bad = |c: &char| c.is_whitespace() || c.is_control() || "?#\\\"<>^`|".contains(*c);
        if let Some(found) = text.chars().find(is_bad) {
            return Err(PatternError::BadCharacter { text: own(), found });
        }
        let (body, open) = match rest.strip_suffix('*') {
            Some("") => return Ok(PathPattern { text: own(), kind: Kind::Any }),
            Some(body) if body.ends_with('/') => (&body[..body.len() - 1], true),
            _ => (rest, false),
        };
        if body.contains('*') {
            return Err(PatternError::StrayStar { text: own() });
        }
        let count = body.split('/').count();
        let is_empty = |(i, s): (usize, &str)| s.is_empty() && (open || i + 1 < count);
        if body.split('/').enumerate().any(is_empty) {
            return Err(PatternError::EmptySegment { text: own() });
        }
        let names: Vec<_> = body.split('/').filter(|s| s.contains(['{', '}'])).collect();
        if !names.iter().enumerate().all(|(i, name)| is_parameter(name) && !names[..i].contains(name)) {
            return Err(PatternError::BadParameter { text: own() });
        }
        let normal = normal_form(body).map_err(|cause| PatternError::Impossible { text: own(), cause })?;
        let kind = match (names.is_empty(), open) {
            (true, true) => Kind::Prefix(normal.into()),
            (true, false) => Kind::Exact(normal.into()),
            (false, open) => {
                let segment =
                    |s: &[u8]| if s.starts_with(b"{") { Segment::Parameter } else { Segment::Literal(s.into()) };
                Kind::Template { segments: normal[1..].split(|b| *b == b'/').map(segment).collect(), open }
            }
        };
        Ok(PathPattern { text: own(), kind })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// What follows `prefix` and a slash, if `path` begins so.
#[inline]
pub(crate) fn starts_below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix)?.strip_prefix(b"/")
}

fn matches_template(segments: &[Segment], open: bool, normal: &[u8]) -> bool {
    let Some(path) = starts_below(normal, b"") else { return false };
    let mut rest = Some(path);
    for segment in segments {
        let Some(path) = rest else { return false };
        let (found, behind) = match path.iter().position(|b| *b == b'/') {
            Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
            None => (path, None),
        };
        let fits = match segment {
            Segment::Parameter => !found.is_empty(),
            Segment::Literal(text) => **text == *found,
        };
        if !fits {
            return false;
        }
        rest = behind;
    }
    open || rest.is_none()
}

/// `{name}`, of lower-case letters, digits and underscores, not beginning with a digit.
fn is_parameter(segment: &str) -> bool {
    segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')).is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// The normal form of a pattern's path, its leading slash added: the same as that of requests, which escape whatever is
/// not ASCII.
fn normal_form(body: &str) -> Result<Vec<u8>, PathError> {
    let mut escaped = vec![b'/'];
    for byte in body.bytes() {
        if byte.is_ascii() { escaped.push(byte) } else { write_escaped(byte, &mut escaped) }
    }
    let mut scratch = Vec::new();
    path::normalise(&escaped, &mut scratch).map(<[u8]>::to_vec)
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
