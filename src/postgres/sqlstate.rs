//! Turns a server's SQLSTATE into one of our codes, and says whether a retry can help.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

use crate::error::{Code, Error};

/// What gimbal was doing when the server refused: the same SQLSTATE means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// Connecting.
    Login,
    /// An ordinary statement or a replication command.
    Statement,
    /// START_REPLICATION, before its first byte.
    StreamStart,
    /// Streaming.
    Stream,
}

/// The error for a server's `sqlstate` and primary `message`.
///
/// The message is left out where it can hold row values: data exceptions (22), constraint violations (23), and what
/// functions raise themselves (P0).
pub fn server_error(during: During, sqlstate: &str, message: &str) -> Error {
    let diagnosis = match sqlstate.get(..2) {
        Some("22" | "23" | "P0") => format!("the server refused a statement with SQLSTATE {sqlstate}"),
        _ => format!("the server says: {} (SQLSTATE {sqlstate})", message.trim()),
    };
    match (sqlstate, during) {
        ("57P04", _) => Error::definite(Code::SourceUnreachable, diagnosis).hint("the database was dropped"),
        ("57P01" | "57P02" | "57P03" | "57P05", _) => Error::transient(Code::SourceUnreachable, diagnosis),
        ("53300", _) => Error::transient(Code::SourceUnreachable, diagnosis)
            .hint("raise `max_connections` or `max_wal_senders`, or close what holds them"),
        ("53400", _) => Error::definite(Code::SourceSetting, diagnosis).hint("raise `max_replication_slots`"),
        ("3D000", During::Login) => {
            Error::definite(Code::SourceUrl, diagnosis).hint("name an existing database in the source URL")
        }
        ("42501", During::Login) => Error::definite(Code::SourceAuth, diagnosis)
            .hint("the role needs LOGIN and REPLICATION, and CONNECT on the database"),
        ("55006", _) => Error::transient(Code::SlotHeld, diagnosis)
            .hint("another gimbal streams from the slot; one that died frees it after `wal_sender_timeout`"),
        // 55000: invalidated or out of WAL. 42704: no such slot. 58P01: the segment is gone.
        ("55000" | "42704" | "58P01", During::StreamStart) | ("58P01" | "55000", During::Stream) => {
            Error::definite(Code::SlotLost, diagnosis).hint(
                "changes since its last position are gone from the server: `gimbal adopt` lets the slot be made anew and every table be copied again",
            )
        }
        ("42704", During::Stream) => no_publication(diagnosis),
        _ => by_class(sqlstate, diagnosis),
    }
}

fn no_publication(diagnosis: String) -> Error {
    Error::definite(Code::PublicationInvalid, diagnosis)
        .hint("run `gimbal install`; the publication has to be older than the slot")
}

fn by_class(sqlstate: &str, diagnosis: String) -> Error {
    match sqlstate.get(..2) {
        Some("28") => Error::definite(Code::SourceAuth, diagnosis).hint(
            "check the role, its password (`PGPASSWORD`, `password_file`, passfile) and the server's `pg_hba.conf`",
        ),
        Some("08") => Error::transient(Code::SourceUnreachable, diagnosis),
        // Out of resources, cancelled or timed out, deadlock, lock not available, the server's disk: a retry can help.
        Some("53" | "57" | "40" | "58") => Error::transient(Code::SourceStatement, diagnosis),
        Some("55") if sqlstate == "55P03" => Error::transient(Code::SourceStatement, diagnosis),
        _ => Error::definite(Code::SourceStatement, diagnosis),
    }
}

/// As [`server_error`], from an ErrorResponse as it came.
pub(super) fn error_response(during: During, fields: ErrorFields<'_>) -> Error {
    let (sqlstate, message) = state_and_message(fields);
    server_error(during, sqlstate.as_deref().unwrap_or("unknown"), message.as_deref().unwrap_or("nothing"))
}

/// The error for a notice in the stream that says that changes are left out; none for every other notice.
///
/// `skipped loading publication` is a warning with SQLSTATE 55000, the only one that a walsender gives.
pub(super) fn gap(fields: ErrorFields<'_>) -> Option<Error> {
    match state_and_message(fields) {
        (Some(sqlstate), message) if sqlstate == "55000" => {
            let message = message.unwrap_or_default();
            Some(no_publication(format!("the server says: {} (SQLSTATE {sqlstate})", message.trim())))
        }
        _ => None,
    }
}

fn state_and_message(mut fields: ErrorFields<'_>) -> (Option<String>, Option<String>) {
    let (mut sqlstate, mut message) = (None, None);
    // What cannot be read any more stays unknown; the refusal itself is reported all the same.
    while let Ok(Some(field)) = fields.next() {
        let text = || Some(String::from_utf8_lossy(field.value_bytes()).into_owned());
        match field.type_() {
            b'C' => sqlstate = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    (sqlstate, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn each_sqlstate_has_its_code_and_kind() {
        use During::{Login, Statement, Stream, StreamStart};
        use Kind::{Definite, Transient};
        for (during, sqlstate, code, kind) in [
            (Login, "28P01", Code::SourceAuth, Definite),
            (Login, "28000", Code::SourceAuth, Definite),
            (Login, "42501", Code::SourceAuth, Definite),
            (Login, "3D000", Code::SourceUrl, Definite),
            (Login, "57P03", Code::SourceUnreachable, Transient),
            (Stream, "57P01", Code::SourceUnreachable, Transient),
            (Stream, "57P02", Code::SourceUnreachable, Transient),
            (Statement, "57014", Code::SourceStatement, Transient),
            (Statement, "08006", Code::SourceUnreachable, Transient),
            (Login, "53300", Code::SourceUnreachable, Transient),
            (Statement, "53400", Code::SourceSetting, Definite),
            (StreamStart, "55006", Code::SlotHeld, Transient),
            (StreamStart, "55000", Code::SlotLost, Definite),
            (StreamStart, "42704", Code::SlotLost, Definite),
            (Stream, "58P01", Code::SlotLost, Definite),
            (Stream, "42704", Code::PublicationInvalid, Definite),
            (Statement, "55000", Code::SourceStatement, Definite),
            (Statement, "55P03", Code::SourceStatement, Transient),
            (Statement, "40001", Code::SourceStatement, Transient),
            (Statement, "42P01", Code::SourceStatement, Definite),
            (Statement, "", Code::SourceStatement, Definite),
        ] {
            let error = server_error(during, sqlstate, "text");
            assert_eq!((error.code(), error.kind()), (code, kind), "{during:?} {sqlstate}");
        }
    }

    #[test]
    fn messages_that_may_hold_row_values_are_left_out() {
        for sqlstate in ["22P02", "23505", "P0001"] {
            let error = server_error(During::Statement, sqlstate, "invalid input: \"secret\"");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.to_string().contains(sqlstate), "{error}");
        }
    }
}
