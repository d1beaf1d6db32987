//! Rows for a client: columns of the types that PgBouncer's console has, as text or, for drivers that ask for it, in
//! PostgreSQL's binary formats.

use crate::wire::tag;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Int4,
    Int8,
    Numeric,
}

/// A name and a type.
pub(super) type Column = (&'static str, Type);

/// What stands in a cell. A number is not negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Text(String),
    Number(u64),
}

/// Rows, and what their columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Value>>,
}

/// In which formats a client wants columns: 0 is text, 1 binary. None: text; one: all; else one for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Formats(pub(super) Vec<u16>);

impl Type {
    const fn oid(self) -> u32 {
        match self {
            Type::Text => 25,
            Type::Int4 => 23,
            Type::Int8 => 20,
            Type::Numeric => 1700,
        }
    }

    const fn size(self) -> i16 {
        match self {
            Type::Int4 => 4,
            Type::Int8 => 8,
            Type::Text | Type::Numeric => -1,
        }
    }
}

impl Formats {
    fn of(&self, column: usize) -> u16 {
        match self.0.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(0),
        }
    }

    /// Whether they fit so many columns.
    pub(super) fn fits(&self, columns: usize) -> bool {
        (self.0.len() <= 1 || self.0.len() == columns) && self.0.iter().all(|format| *format <= 1)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number as u64)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Value {
        Value::Number(is.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(some: Option<T>) -> Value {
        some.map_or(Value::Null, Into::into)
    }
}

/// A message: its length is known when it is there.
fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends the description of rows.
pub(super) fn put_columns(out: &mut Vec<u8>, columns: &[Column], formats: &Formats) {
    message(out, tag::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for (at, (name, kind)) in columns.iter().enumerate() {
            out.extend_from_slice(name.as_bytes());
            // The end of the name; no table, no column of one.
            out.extend_from_slice(&[0; 7]);
            out.extend_from_slice(&kind.oid().to_be_bytes());
            out.extend_from_slice(&kind.size().to_be_bytes());
            out.extend_from_slice(&(-1i32).to_be_bytes());
            out.extend_from_slice(&formats.of(at).to_be_bytes());
        }
    });
}

/// Appends a row.
pub(super) fn put_row(out: &mut Vec<u8>, columns: &[Column], row: &[Value], formats: &Formats) {
    message(out, tag::DATA_ROW, |out| {
        out.extend_from_slice(&(row.len() as u16).to_be_bytes());
        for (at, (value, (_, kind))) in row.iter().zip(columns).enumerate() {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            match value {
                Value::Null => {
                    out[start..].copy_from_slice(&(-1i32).to_be_bytes());
                    continue;
                }
                // A zero byte would end a text early in drivers that are written in C.
                Value::Text(text) => out.extend(text.bytes().filter(|byte| *byte != 0)),
                Value::Number(number) => put_number(out, *number, *kind, formats.of(at) == 1),
            }
            let length = (out.len() - start - 4) as u32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    });
}

fn put_number(out: &mut Vec<u8>, number: u64, kind: Type, is_binary: bool) {
    let int4 = i32::try_from(number).unwrap_or(i32::MAX);
    let int8 = i64::try_from(number).unwrap_or(i64::MAX);
    match (kind, is_binary) {
        (Type::Int4, true) => out.extend_from_slice(&int4.to_be_bytes()),
        (Type::Int8, true) => out.extend_from_slice(&int8.to_be_bytes()),
        (Type::Numeric, true) => put_numeric(out, number),
        (Type::Int4, false) => out.extend_from_slice(int4.to_string().as_bytes()),
        (Type::Int8, false) => out.extend_from_slice(int8.to_string().as_bytes()),
        (Type::Numeric | Type::Text, _) => out.extend_from_slice(number.to_string().as_bytes()),
    }
}

/// `numeric` as PostgreSQL sends it: how many digits to the base of 10,000, the weight of the first, sign, scale, digits.
fn put_numeric(out: &mut Vec<u8>, mut number: u64) {
    let mut digits: Vec<u16> = Vec::new();
    while number > 0 {
        digits.push((number % 10_000) as u16);
        number /= 10_000;
    }
    digits.reverse();
    let weight = digits.len().saturating_sub(1);
    while digits.last() == Some(&0) {
        digits.pop();
    }
    for field in [digits.len() as u16, weight as u16, 0, 0].into_iter().chain(digits) {
        out.extend_from_slice(&field.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(number: u64) -> Vec<u16> {
        let mut out = Vec::new();
        put_numeric(&mut out, number);
        out.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn numbers_in_binary_are_as_postgres_sends_them() {
        // As `select 0::numeric`, 1, 10000, 12345678 and 2^64-1 come from PostgreSQL 15 in binary.
        assert_eq!(numeric(0), [0, 0, 0, 0]);
        assert_eq!(numeric(1), [1, 0, 0, 0, 1]);
        assert_eq!(numeric(10_000), [1, 1, 0, 0, 1]);
        assert_eq!(numeric(12_345_678), [2, 1, 0, 0, 1_234, 5_678]);
        assert_eq!(numeric(u64::MAX), [5, 4, 0, 0, 1_844, 6_744, 737, 955, 1_615]);
    }

    #[test]
    fn a_number_that_is_too_large_is_the_largest() {
        let columns = [("a", Type::Int4), ("b", Type::Int8), ("c", Type::Numeric), ("d", Type::Text)];
        let row = [Value::Number(u64::MAX), Value::Number(u64::MAX), Value::Number(u64::MAX), "x\0y".into()];
        let mut out = Vec::new();
        put_row(&mut out, &columns, &row, &Formats::default());
        let text = String::from_utf8_lossy(&out);
        for part in ["2147483647", "9223372036854775807", "18446744073709551615", "xy"] {
            assert!(text.contains(part), "{text:?}");
        }
    }

    #[test]
    fn formats_are_for_none_all_or_each() {
        assert!(Formats(vec![]).fits(3) && Formats(vec![1]).fits(3) && Formats(vec![0, 1, 1]).fits(3));
        assert!(!Formats(vec![0, 1]).fits(3) && !Formats(vec![2]).fits(1));
        assert_eq!((Formats(vec![1]).of(2), Formats(vec![0, 1]).of(1), Formats(vec![]).of(9)), (1, 1, 0));
    }
}
