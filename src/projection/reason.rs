//! Why a value does not fit.

/// Why a value cannot be published. The codes are those of dead letters and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// NaN where the target has none.
    Nan,
    /// An infinity where the target has none.
    Infinity,
    /// Beyond the target's range or precision.
    OutOfRange,
    /// The target would drop digits.
    Inexact,
    /// Not the text that PostgreSQL prints for such a value.
    NotCanonical,
    /// A label that neither the map nor the enum has.
    Unmapped,
    /// An array of more than one dimension.
    Dimensions,
    /// An array whose lower bound is not 1.
    Bounds,
    /// Not the length of the fixed type.
    Length,
    /// A null item in an array of non-null items.
    NullElement,
    /// A null in a field that must not be null.
    Null,
    /// Text that is not UTF-8.
    InvalidText,
    /// An object or array where a path must find a scalar.
    PathType,
    /// An out-of-line value that the change did not touch and the stream does not carry.
    Unchanged,
}

impl Reason {
    /// The fixed code, such as `out_of_range`.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Nan => "nan",
            Reason::Infinity => "infinity",
            Reason::OutOfRange => "out_of_range",
            Reason::Inexact => "inexact",
            Reason::NotCanonical => "not_canonical",
            Reason::Unmapped => "unmapped",
            Reason::Dimensions => "dimensions",
            Reason::Bounds => "bounds",
            Reason::Length => "length",
            Reason::NullElement => "null_element",
            Reason::Null => "null",
            Reason::InvalidText => "invalid_text",
            Reason::PathType => "path_type",
            Reason::Unchanged => "unchanged",
        }
    }

    /// What is wrong with the value, to follow a colon.
    pub(super) fn diagnosis(self) -> &'static str {
        match self {
            Reason::Nan => "it is NaN",
            Reason::Infinity => "it is infinite",
            Reason::OutOfRange => "it is out of range",
            Reason::Inexact => "it has more digits than the type",
            Reason::NotCanonical => "it is not written as PostgreSQL prints such values",
            Reason::Unmapped => "no symbol stands for it",
            Reason::Dimensions => "the array has more than one dimension",
            Reason::Bounds => "the array does not begin at 1",
            Reason::Length => "it has another length",
            Reason::NullElement => "the array holds a null",
            Reason::Null => "it is null",
            Reason::InvalidText => "it is not UTF-8",
            Reason::PathType => "its path finds an object or an array",
            Reason::Unchanged => "the stream does not carry it",
        }
    }

    /// The next step for whoever reads the error.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Reason::Null => "mend the row, or give the field's entry a `default:`",
            Reason::Unchanged => "`ALTER TABLE … REPLICA IDENTITY FULL` makes the stream carry it from then on",
            Reason::PathType => "mend the row, let the path go deeper, or let the field be a `string`",
            Reason::Unmapped => "add the label to `map`, or say `else: SYMBOL`",
            Reason::NullElement => "mend the row, or let the items be `[\"null\", T]` in a new major",
            Reason::Dimensions | Reason::Bounds => "mend the row, or publish the array as `string` in a new major",
            Reason::Nan | Reason::Infinity => "mend the row, or publish the column as `string` in a new major",
            Reason::OutOfRange | Reason::Inexact | Reason::Length => {
                "mend the row, or give the field a wider type in a new major"
            }
            Reason::NotCanonical | Reason::InvalidText => {
                "mend the row, or publish the column as `string` or `bytes` in a new major"
            }
        }
    }
}
