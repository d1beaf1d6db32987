//! The reading of SQL texts. Any bytes have a reading; a shape is the shape of itself; white space, and statements before it,
//! change nothing of what a text does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pool::sql::{Touches, deallocates, is_plain_begin, normalise, scan, settings};

fuzz_target!(|data: &[u8]| {
    let told = scan(data);
    let cut = normalise(data, 50);
    assert!(cut.len() <= 50);
    let changed = settings(data);
    if told.touches.has_any(Touches::SET | Touches::SET_CONFIG) {
        assert!(changed.all || changed.unknown || !changed.names.is_empty());
    }
    if let Some(_given_up) = deallocates(data) {
        assert!(told.statements == 1 && told.touches == Touches::DEALLOCATE);
    }
    if is_plain_begin(data) {
        assert!(told.statements == 1 && told.touches == Touches::BEGIN);
    }
    let behind = scan(&[b"select 1\n;\t", data].concat());
    assert_eq!(behind.touches, told.touches);
    assert_eq!(behind.statements, told.statements + 1);
    let spaced = scan(&[b" ; /* ; */", data].concat());
    assert_eq!(spaced, told);
    if std::str::from_utf8(data).is_ok() {
        let shape = normalise(data, usize::MAX);
        assert!(shape.starts_with(&cut));
        assert_eq!(normalise(shape.as_bytes(), usize::MAX), shape);
        assert_eq!(scan(shape.as_bytes()).fingerprint, told.fingerprint);
    }
});
