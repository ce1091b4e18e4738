//! Compiles a contract version and a table version into a [`Projection`].
//!
//! If a field cannot be filled for every row that the pair admits, compilation fails; there is no "try it and see".

use std::collections::BTreeMap;

use crate::avro::{Field, FieldType};
use crate::contract::{ContractVersion, Expr, Feed, FeedOptions, FeedSource, Mask, OnError};
use crate::error::{Code, Error, Result};
use crate::pairs::{self, Pair};
use crate::table::{SourceType, TableVersion, VersionColumn};

use super::constant::encode_constant;
use super::convert::Conversion;
use super::expr::Formula;
use super::{Body, FieldNames, Names, Projection, SchemaIds, Step, StepFeed, encode};

/// All that a compilation looks at.
pub(super) struct Compiler<'a> {
    pub contract: &'a ContractVersion,
    pub bindings: &'a BTreeMap<String, i16>,
    pub table: &'a TableVersion,
    pub ids: SchemaIds,
}

/// A bound column whose type is known.
struct Bound<'a> {
    place: usize,
    column: &'a VersionColumn,
    source: &'a SourceType,
}

impl<'a> Compiler<'a> {
    /// Compiles key and value, or says which field cannot be fed by every possible row.
    pub fn compile(&self) -> Result<Projection> {
        let (fields, feeds) = (&self.contract.schema.fields, &self.contract.feeds);
        let in_step =
            fields.len() == feeds.len() && fields.iter().zip(feeds).all(|(field, feed)| field.name == feed.field);
        if !in_step || fields.len() > usize::from(u16::MAX) {
            let why = format!("the feeds of {} are not those of its schema", self.contract_name());
            return Err(Error::definite(Code::Internal, why));
        }
        let mut steps = Vec::with_capacity(fields.len());
        let mut names = Vec::with_capacity(fields.len());
        for ((field, feed), index) in fields.iter().zip(feeds).zip(0u16..) {
            let (feed, column) = self.step(field, feed)?;
            steps.push(Step { field: index, feed });
            names.push(FieldNames { field: field.name.clone(), target: field.ty.to_string(), column });
        }
        let value = Body { frame: encode::frame(self.ids.value), steps: steps.into_boxed_slice() };
        let (key, key_places) = match self.contract.key.is_empty() {
            true => (None, Vec::new()),
            false => self.key().map(|(body, places)| (Some(body), places))?,
        };
        let mut reads = vec![false; self.table.columns.len()];
        let steps = value.steps.iter().chain(key.iter().flat_map(|key| &key.steps));
        for place in steps.flat_map(|step| step.feed.places()) {
            if let Some(read) = reads.get_mut(*place) {
                *read = true;
            }
        }
        let names = Names {
            contract: self.contract.contract.clone(),
            major: self.contract.major,
            table: self.table.name.to_string(),
            fields: names.into_boxed_slice(),
        };
        let (key_places, reads) = (key_places.into_boxed_slice(), reads.into_boxed_slice());
        Ok(Projection { key, value, key_places, reads, names })
    }

    /// A field's feed, with its column and that column's type for messages.
    fn step(&self, field: &Field, feed: &Feed) -> Result<(StepFeed, Option<(String, String)>)> {
        let (from, options) = match &feed.source {
            FeedSource::Const(value) => return Ok((StepFeed::Const(self.constant(value, field)?), None)),
            FeedSource::Expr { expr, options } => return self.formula(field, feed, expr, options),
            FeedSource::Column { from, options } => (from, options),
        };
        let bound = self.bound(&feed.field, from, field)?;
        let pair = pairs::classify(bound.source, &field.ty, options);
        let convert = self.conversion(&bound, field, options, pair, Code::PairRefused)?;
        let null = self.null(options, field)?;
        let names = (bound.column.name.clone(), bound.column.type_name.clone());
        let (place, path, branch) = (bound.place, options.path.clone(), value_branch(&field.ty));
        let feed = StepFeed::Column { place, path, branch, null, fall_back: falls_back(options), convert };
        Ok((feed, Some(names)))
    }

    /// What a null is, unless it is an error.
    fn null(&self, options: &FeedOptions, field: &Field) -> Result<Option<Box<[u8]>>> {
        Ok(match (&options.default, field.ty.null_branch) {
            (Some(default), _) => Some(self.constant(default, field)?),
            (None, Some(null)) => Some(Box::from([encode::branch(null)])),
            (None, None) => None,
        })
    }

    /// A feed that is worked out, with its text and type for messages.
    fn formula(
        &self,
        field: &Field,
        feed: &Feed,
        expr: &Expr,
        options: &FeedOptions,
    ) -> Result<(StepFeed, Option<(String, String)>)> {
        let mut places = Vec::new();
        let mut types = Vec::new();
        for (key, from) in feed.bindings() {
            let bound = self.bound(&key, from, field)?;
            places.push(bound.place);
            types.push(bound.source.clone());
        }
        let of = format!("the expression of field `{}` of {}", field.name, self.contract_name());
        let typed = expr.typed(&types).map_err(|error| {
            let why =
                Error::definite(Code::ExprInvalid, format!("{of}: {} (byte {})", error.message, error.span.start));
            why.hint(error.hint.unwrap_or_else(|| "correct it in the contract".to_owned()))
        })?;
        if let Pair::Refused { why, hint } = pairs::classify(&typed.result, &field.ty, options) {
            let error = Error::definite(Code::PairRefused, format!("{of} cannot feed it (`{}`): {why}", field.ty));
            return Err(error.hint(hint.unwrap_or_default()));
        }
        let convert = self.mask_ready(field, options).and_then(|()| {
            Conversion::of(&typed.result, &field.ty.base, options)
                .ok_or_else(|| Error::definite(Code::Internal, format!("no conversion for {of}")))
        })?;
        let null = self.null(options, field)?;
        let names =
            (feed.bindings().into_iter().map(|(_, from)| from).collect::<Vec<_>>().join("`, `"), "expr".to_owned());
        let formula = Formula { root: typed.root, places: places.into_boxed_slice() };
        Ok((
            StepFeed::Formula {
                formula,
                branch: value_branch(&field.ty),
                null,
                fall_back: falls_back(options),
                convert,
            },
            Some(names),
        ))
    }

    /// A mask's key must be there.
    fn mask_ready(&self, field: &Field, options: &FeedOptions) -> Result<()> {
        match &options.mask {
            Some(Mask::HmacSha256 { key }) if key.secret().is_none() => {
                let (name, field, contract) = (key.name(), &field.name, self.contract_name());
                let why = format!("the key `{name}` that masks field `{field}` of {contract} is not loaded");
                Err(Error::definite(Code::MaskKeyInvalid, why).hint("name it in the config's `keys:`"))
            }
            _ => Ok(()),
        }
    }

    fn key(&self) -> Result<(Body, Vec<usize>)> {
        let contract = self.contract;
        let (Some(schema), Some(id)) = (&contract.key_schema, self.ids.key) else {
            return Err(Error::definite(Code::Internal, format!("{} has no key schema", self.contract_name())));
        };
        if schema.fields.iter().map(|field| &field.name).ne(&contract.key) {
            let why = format!("the key schema of {} is not that of its `key`", self.contract_name());
            return Err(Error::definite(Code::KeyInvalid, why));
        }
        let mut steps = Vec::with_capacity(schema.fields.len());
        let mut places = Vec::with_capacity(schema.fields.len());
        for field in &schema.fields {
            let fed = contract.feeds.iter().zip(0u16..).find(|(feed, _)| feed.field == field.name);
            let Some((Feed { source: FeedSource::Column { from, options }, .. }, index)) = fed else {
                let why = format!("key field `{}` of {} is fed by no column", field.name, self.contract_name());
                return Err(Error::definite(Code::KeyInvalid, why).hint("a key field is a plain column"));
            };
            let bound = self.bound(&field.name, from, field)?;
            let pair = pairs::classify_key(bound.source, &field.ty, options);
            let convert = self.conversion(&bound, field, options, pair, Code::KeyInvalid)?;
            places.push(bound.place);
            let feed = StepFeed::Column {
                place: bound.place,
                path: None,
                branch: None,
                null: None,
                fall_back: false,
                convert,
            };
            steps.push(Step { field: index, feed });
        }
        Ok((Body { frame: encode::frame(id), steps: steps.into_boxed_slice() }, places))
    }

    /// The column that a binding has; `from` is its name in the contract.
    fn bound(&self, binding: &str, from: &str, field: &Field) -> Result<Bound<'a>> {
        let needs = self.needs(field);
        let table = &self.table.name;
        let Some(attnum) = self.bindings.get(binding) else {
            let why = format!("column `{from}` of `{table}` is not bound, and {needs}");
            return Err(Error::definite(Code::SourceUnknown, why).hint("`gimbal check` shows the columns that exist"));
        };
        match self.table.place(*attnum) {
            Some((place, column)) => match &column.source_type {
                Some(source) => Ok(Bound { place, column, source }),
                None => {
                    let (name, type_name) = (&column.name, &column.type_name);
                    let why = format!(
                        "nothing shows what type `{type_name}` of column `{name}` of `{table}` is, and {needs}"
                    );
                    Err(Error::definite(Code::IdentityUnknown, why).hint("the next catalog sample may show it"))
                }
            },
            None if self.table.columns.iter().any(|column| column.attnum.is_none()) => {
                let why = format!(
                    "it is not certain which column of `{table}` is now `{from}` (number {attnum}), and {needs}"
                );
                Err(Error::definite(Code::IdentityUnknown, why).hint("the next catalog sample may show it"))
            }
            None => {
                let why = format!("column `{from}` (number {attnum}) of `{table}` was dropped, and {needs}");
                let hint = "feed the field from another column, or retire it in a new version of the contract";
                Err(Error::definite(Code::ColumnDropped, why).hint(hint))
            }
        }
    }

    fn conversion(
        &self,
        bound: &Bound<'_>,
        field: &Field,
        options: &FeedOptions,
        pair: Pair,
        code: Code,
    ) -> Result<Conversion> {
        if let Pair::Refused { why, hint } = pair {
            return Err(self.refused(bound, field, code, &why, hint));
        }
        self.mask_ready(field, options)?;
        Conversion::of(bound.source, &field.ty.base, options).ok_or_else(|| {
            let (source, target) = (&bound.column.type_name, &field.ty);
            Error::definite(Code::Internal, format!("no conversion from `{source}` to `{target}`"))
        })
    }

    fn refused(&self, bound: &Bound<'_>, field: &Field, code: Code, why: &str, hint: Option<String>) -> Error {
        let table = &self.table.name;
        let VersionColumn { name, type_name, .. } = bound.column;
        let column = format!("column `{name}` (`{type_name}`) of `{table}`");
        let field = format!("field `{}` (`{}`) of {}", field.name, field.ty, self.contract_name());
        let error = Error::definite(code, format!("{column} cannot feed {field}: {why}"));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn constant(&self, value: &serde_json::Value, field: &Field) -> Result<Box<[u8]>> {
        let mut bytes = Vec::new();
        encode_constant(value, &field.ty, &mut bytes).map_err(|why| {
            let why = format!("the constant of field `{}` of {}: {why}", field.name, self.contract_name());
            Error::definite(Code::ContractInvalid, why).hint("write it as the schema's type demands")
        })?;
        Ok(bytes.into_boxed_slice())
    }

    fn contract_name(&self) -> String {
        format!("contract `{}` v{}", self.contract.contract, self.contract.major)
    }

    fn needs(&self, field: &Field) -> String {
        format!("{} needs it for field `{}` (`{}`)", self.contract_name(), field.name, field.ty)
    }
}

fn value_branch(field: &FieldType) -> Option<u8> {
    field.null_branch.map(|null| encode::branch(1 - null.min(1)))
}

/// True if a value that does not fit becomes what a null is.
fn falls_back(options: &FeedOptions) -> bool {
    options.on_error == Some(OnError::Default) && options.default.is_some()
}
