//! COPY, in the simple and the extended protocol.

use super::*;

#[test]
fn copy_in_and_out() {
    script(&[
        Up("Q copy t from stdin", "Q copy t from stdin", ""),
        Down("G", "G", ""),
        Up("d 1 / d 2 / c", "d 1 / d 2 / c", ""),
        Down("C COPY 2 / Z I", "C COPY 2 / Z I", "over"),
        Up("Q copy t to stdout", "Q copy t to stdout", ""),
        Down("H / d 1 / d 2 / c / C COPY 2 / Z I", "H / d 1 / d 2 / c / C COPY 2 / Z I", "over"),
        Up("P _ copy t from stdin / B _ _ / E / H", "P _ copy t from stdin / B _ _ / E _ / H", ""),
        Down("1 / 2 / G", "1 / 2 / G", ""),
        Up("d 1 / c / S", "d 1 / c / S", ""),
        Down("C COPY 1 / Z I", "C COPY 1 / Z I", "over"),
    ]);
}

#[test]
fn a_sync_that_comes_too_early_is_passed_over() {
    script(&[
        Up("P _ copy t from stdin / B _ _ / E / S", "P _ copy t from stdin / B _ _ / E _ / S", ""),
        Down("1 / 2 / G", "1 / 2 / G", ""),
        Up("d 1 / c / S", "d 1 / c / S", ""),
        Down("C COPY 1 / Z I", "C COPY 1 / Z I", "over"),
    ]);
    // Unless the COPY fails before it is read: then it is answered.
    script(&[
        Up("P _ copy v from stdin / B _ _ / E / S", "P _ copy v from stdin / B _ _ / E _ / S", ""),
        Down("1 / 2 / G / E 42809 a view / Z I", "1 / 2 / G / E 42809 a view / Z I", "over"),
    ]);
}

#[test]
fn data_that_is_sent_before_it_is_asked_for() {
    script(&[
        Up("Q copy t from stdin / d 1 / c", "Q copy t from stdin / d 1 / c", ""),
        Down("G / C COPY 1 / Z I", "G / C COPY 1 / Z I", "over"),
        // The COPY has failed before it began: the data goes nowhere, and the transaction is over all the same.
        Up("Q copy x from stdin / d 1 / c", "Q copy x from stdin / d 1 / c", ""),
        Down("E 42P01 no / Z I", "E 42P01 no / Z I", "over"),
        Up("P _ copy t from stdin / B _ _ / E / d 1 / c / S", "P _ copy t from stdin / B _ _ / E _ / d 1 / c / S", ""),
        Down("1 / 2 / G / C COPY 1 / Z I", "1 / 2 / G / C COPY 1 / Z I", "over"),
    ]);
}

#[test]
fn a_copy_that_fails() {
    script(&[
        Up("Q copy t from stdin", "Q copy t from stdin", ""),
        Down("G", "G", ""),
        Up("d bad", "d bad", ""),
        Down("E 22P02 no / Z I", "E 22P02 no / Z I", "over"),
    ]);
    script(&[
        Up("Q copy t from stdin", "Q copy t from stdin", ""),
        Down("G", "G", ""),
        Up("d 1 / f enough", "d 1 / f enough", ""),
        Down("E 57014 enough / Z I", "E 57014 enough / Z I", "over"),
        Up("P _ copy t from stdin / B _ _ / E / H", "P _ copy t from stdin / B _ _ / E _ / H", ""),
        Down("1 / 2 / G", "1 / 2 / G", ""),
        Up("d bad", "d bad", ""),
        Down("E 22P02 no", "E 22P02 no", ""),
        Up("d more / c / S", "S", ""),
        Down("Z I", "Z I", "over"),
    ]);
    // The error and the end of the data pass each other.
    script(&[
        Up("P _ copy t from stdin / B _ _ / E / H", "P _ copy t from stdin / B _ _ / E _ / H", ""),
        Down("1 / 2 / G", "1 / 2 / G", ""),
        Up("d bad / c / S", "d bad / c / S", ""),
        Down("E 22P02 no / Z I", "E 22P02 no / Z I", "over"),
    ]);
}
