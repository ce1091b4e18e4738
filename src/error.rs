//! One error type: every failure is transient (retry with back-off) or definite (stop; code, diagnosis, hint).
//!
//! Messages are lower-case, without a full stop, with names in back-ticks, and never hold a row value or a secret.

use std::fmt;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The same step may succeed later: retry with back-off.
    Transient,
    /// Retrying cannot help: stop, say why, exit non-zero.
    Definite,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $slug:literal;)*) => {
        /// Every way to fail, with a number and a slug that never change once released. `docs/errors.md` has a section each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The number, as printed after `E`.
            pub fn number(self) -> u16 { match self { $(Code::$name => $number,)* } }

            /// The fixed slug, such as `source-replaced`.
            pub fn slug(self) -> &'static str { match self { $(Code::$name => $slug,)* } }
        }
    };
}

codes! {
    // E01: config, contracts, schemas (found by `check`, before anything runs)
    /// The config file cannot be read or does not parse.
    ConfigInvalid = 101 "config-invalid";
    /// A contract file does not parse or breaks a rule of the format.
    ContractInvalid = 102 "contract-invalid";
    /// An `.avsc` file does not parse, or uses what gimbal does not publish.
    SchemaInvalid = 103 "schema-invalid";
    /// A schema field is fed by nothing, or an entry names no field.
    ContractNotTotal = 104 "contract-not-total";
    /// A source type cannot feed a schema type.
    PairRefused = 105 "pair-refused";
    /// A minor version breaks FULL_TRANSITIVE.
    SchemaIncompatible = 106 "schema-incompatible";
    /// The catalog lacks a table or column that a contract names.
    SourceUnknown = 107 "source-unknown";
    /// A contract's key is not one that can identify a row for good.
    KeyInvalid = 108 "key-invalid";
    /// `catalog.json` is missing or does not parse.
    CatalogFileInvalid = 109 "catalog-file-invalid";
    /// A contract or config asks for what this version does not do yet.
    NotSupported = 110 "not-supported";
    /// The key of a mask is missing, unreadable or too short.
    MaskKeyInvalid = 111 "mask-key-invalid";
    /// An expression does not parse, or its types do not fit.
    ExprInvalid = 112 "expr-invalid";
    /// A released schema was edited or removed.
    SchemaFrozen = 115 "schema-frozen";
    /// Key, partitions, topic or kind of a released major changed.
    MajorFrozen = 116 "major-frozen";
    /// A version ends before the day that was promised.
    RetiredEarly = 117 "retired-early";
    /// A minor removes a field that a subscriber reads.
    FieldStillRead = 118 "field-still-read";
    /// A version retires soon, or should have been.
    VersionRetiring = 119 "version-retiring";
    /// Another environment's tables are not those of `catalog.json`.
    EnvironmentDiffers = 120 "environment-differs";
    /// The commit to hold the project against cannot be read.
    ReferenceUnknown = 121 "reference-unknown";

    // E02: production's schema changed under a contract
    /// A bound column was dropped.
    ColumnDropped = 201 "column-dropped";
    /// A bound column changed its type.
    ColumnRetyped = 202 "column-retyped";
    /// The identity of a bound column cannot be told for certain.
    IdentityUnknown = 203 "identity-unknown";
    /// A Relation message contradicts every catalog image.
    CatalogContradiction = 204 "catalog-contradiction";
    /// Another table now carries the bound table's name, or the bound table is gone.
    SourceReplaced = 205 "source-replaced";
    /// The replica identity no longer covers the contract's key.
    ReplicaIdentityLost = 206 "replica-identity-lost";
    /// The table was truncated.
    TableTruncated = 207 "table-truncated";
    /// The contract's key is no longer unique and NOT NULL.
    KeyLost = 208 "key-lost";
    /// A key in a topic does not decode, so a repair cannot look it up.
    TopicKeyUnreadable = 215 "topic-key-unreadable";

    // E03: the source server
    /// The server cannot be reached, or the connection broke.
    SourceUnreachable = 301 "source-unreachable";
    /// The server refused the login.
    SourceAuth = 302 "source-auth";
    /// TLS failed or was refused, or the certificate does not fit.
    SourceTls = 303 "source-tls";
    /// The server broke the protocol, or sent what gimbal does not know.
    SourceProtocol = 304 "source-protocol";
    /// The slot is held by another process.
    SlotHeld = 305 "slot-held";
    /// The slot is gone, or lost its WAL.
    SlotLost = 306 "slot-lost";
    /// A slot exists for which the sink has no state.
    SlotWithoutState = 307 "slot-without-state";
    /// The slot is not one that gimbal can read, or the stream does not continue the checkpoint.
    SourceMismatch = 308 "source-mismatch";
    /// The publication is missing, or does not hold exactly the contracted tables.
    PublicationInvalid = 309 "publication-invalid";
    /// A server setting makes logical replication impossible.
    SourceSetting = 310 "source-setting";
    /// A statement on the source failed.
    SourceStatement = 311 "source-statement";
    /// A message is larger than gimbal accepts.
    MessageTooLarge = 312 "message-too-large";
    /// The source URL is not usable.
    SourceUrl = 313 "source-url";
    /// The server is another one than the checkpoint knows.
    SystemMismatch = 314 "system-mismatch";
    /// The server's log ends before the checkpoint.
    ServerBehind = 315 "server-behind";
    /// The server left the checkpoint's timeline before the checkpoint.
    TimelineDiverged = 316 "timeline-diverged";
    /// The slot was moved past what gimbal acknowledged.
    SlotMoved = 317 "slot-moved";
    /// The stream goes on without the checkpoint's last heartbeat.
    AnchorMissing = 318 "anchor-missing";
    /// `adopt` cannot be done, or was not agreed to.
    AdoptRefused = 319 "adopt-refused";
    /// The role lacks a right that reading the source needs.
    SourceRights = 320 "source-rights";
    /// Row security would hide rows of a contracted table from the role.
    RowSecurity = 321 "row-security";
    /// What slots may keep of the log is unbounded, too small, or nearly used up.
    SlotRetention = 322 "slot-retention";
    /// No slot or sender is left for this pipeline.
    SlotsExhausted = 323 "slots-exhausted";
    /// The server is a standby.
    SourceStandby = 324 "source-standby";
    /// The clocks of gimbal and the server differ.
    ClockSkew = 325 "clock-skew";
    /// The login cannot be bound to the TLS connection, and the URL demands it.
    ChannelBinding = 326 "channel-binding";
    /// The server's certificate names another host.
    CertificateName = 327 "certificate-name";
    /// No trusted root has issued the server's certificate.
    CertificateUntrusted = 328 "certificate-untrusted";
    /// The server, or somebody before it, refuses TLS.
    TlsRefused = 329 "tls-refused";

    // E04: values
    /// A value does not fit the type that the contract promises.
    ValueRefused = 401 "value-refused";
    /// An unchanged out-of-line value is needed and the message does not carry it.
    ValueUnchanged = 402 "value-unchanged";
    /// A null in a field that must not be null.
    ValueNull = 403 "value-null";
    /// Rows were sealed with another key than the one that is configured, or none is configured.
    SealKeyDiffers = 404 "seal-key-differs";
    /// The key for sealing is missing or is no key.
    SealKeyInvalid = 405 "seal-key-invalid";
    /// A sealed row cannot be opened.
    SealBroken = 406 "seal-broken";

    // E05: the sink
    /// The sink cannot be reached.
    SinkUnreachable = 501 "sink-unreachable";
    /// The sink refused a write for good.
    SinkRefused = 502 "sink-refused";
    /// Another gimbal writes to this sink.
    SinkHeld = 503 "sink-held";
    /// A topic exists with settings that would lose or hide records.
    TopicSettings = 504 "topic-settings";
    /// A foreign open transaction hides the end of the state topic.
    StateHangingTransaction = 505 "state-hanging-transaction";
    /// This producer was fenced by a newer one.
    SinkFenced = 506 "sink-fenced";
    /// Files of the sink are damaged.
    SinkDamaged = 507 "sink-damaged";
    /// The cluster has fewer brokers than the replication factor.
    SinkReplication = 508 "sink-replication";
    /// A topic takes smaller records than gimbal may send.
    SinkRecordLimit = 509 "sink-record-limit";
    /// The brokers allow shorter transactions than gimbal asks for.
    SinkTransactionTimeout = 510 "sink-transaction-timeout";
    /// The disk of the file topics is nearly full.
    SinkDiskLow = 511 "sink-disk-low";
    /// The brokers refused the login, or TLS with them failed.
    SinkAuth = 512 "sink-auth";

    // E06: the registry
    /// The registry cannot be reached.
    RegistryUnreachable = 601 "registry-unreachable";
    /// The registry refused a schema as incompatible.
    RegistryIncompatible = 602 "registry-incompatible";
    /// The registry refused the request.
    RegistryRefused = 603 "registry-refused";
    /// The registry refused the login or the right.
    RegistryAuth = 604 "registry-auth";
    /// The registry finds a schema invalid, or does not take it now.
    RegistrySchema = 605 "registry-schema";
    /// TLS with the registry failed.
    RegistryTls = 606 "registry-tls";
    /// The registry takes no new schemas.
    RegistryReadOnly = 607 "registry-read-only";
    /// A subject is guarded less than gimbal needs.
    RegistryCompatibility = 608 "registry-compatibility";
    /// What answers is no Confluent-compatible registry.
    RegistryProtocol = 609 "registry-protocol";

    // E07: the checkpoint
    /// A state entry is damaged or from a newer gimbal.
    StateInvalid = 701 "state-invalid";

    // E08: the command line and the daemon
    /// A command was used wrongly.
    Usage = 801 "usage";
    /// The daemon is not running, or does not answer.
    DaemonUnreachable = 802 "daemon-unreachable";
    /// A file or folder cannot be read or written.
    Io = 803 "io";
    /// A request to the daemon's API lacks the token, or carries another one.
    ApiDenied = 804 "api-denied";
    /// A repair was asked for that cannot be done.
    RepairRefused = 805 "repair-refused";
    /// The daemon cannot take a request at the moment.
    DaemonBusy = 806 "daemon-busy";
    /// A defect of gimbal itself.
    Internal = 899 "internal";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.number())
    }
}

/// A failure: kind, code, diagnosis (both sides of a mismatch), hint (the next step).
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    code: Code,
    diagnosis: String,
    hint: Option<String>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that no retry can mend.
    pub fn definite(code: Code, diagnosis: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind: Kind::Definite, code, diagnosis: diagnosis.into(), hint: None }))
    }

    /// A failure that a later retry may mend.
    pub fn transient(code: Code, diagnosis: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind: Kind::Transient, code, diagnosis: diagnosis.into(), hint: None }))
    }

    /// Adds the next step for the reader.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds where it happened, last.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.0.diagnosis = format!("{} at {place}", self.0.diagnosis);
        self
    }

    /// The same failure once more, for the next one that it hits.
    pub fn again(&self) -> Error {
        let Inner { kind, code, diagnosis, hint } = &*self.0;
        Error(Box::new(Inner { kind: *kind, code: *code, diagnosis: diagnosis.clone(), hint: hint.clone() }))
    }

    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What is wrong, without code and hint.
    pub fn diagnosis(&self) -> &str {
        &self.0.diagnosis
    }

    /// What to do next, where we know.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.0.code, self.0.diagnosis)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}
