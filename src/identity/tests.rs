//! The inference against the truth: random histories, every subset by brute force, and the counter-examples that ruled
//! out simpler ideas.

use std::collections::BTreeSet;

use super::*;
use ColumnKind::{Dropped, Generated, Ordinary};

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Rng(pub u64);

impl Rng {
    /// A generator whose seed is `default`, or `GIMBAL_SEED` where that is set; printed, so that a failure can be run again.
    pub(crate) fn seeded(test: &str, default: u64) -> Rng {
        let seed = std::env::var("GIMBAL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        println!("{test}: GIMBAL_SEED={seed}");
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.between(0, items.len() - 1)]
    }
}

/// One random command on a table: drop an expression, add a column, or drop one (never the first, which is the key).
pub(crate) fn command(rng: &mut Rng, columns: &mut Vec<ColumnKind>, generated_percent: u64) {
    let of = |kind| (1..columns.len()).filter(|&i| columns[i] == kind).collect::<Vec<_>>();
    let (generated, ordinary) = (of(Generated), of(Ordinary));
    let live: Vec<usize> = generated.iter().chain(&ordinary).copied().collect();
    if !generated.is_empty() && rng.chance(generated_percent) {
        columns[*rng.pick(&generated)] = Ordinary;
    } else if live.is_empty() || rng.chance(55) {
        columns.push(if rng.chance(generated_percent) { Generated } else { Ordinary });
    } else {
        columns[*rng.pick(&live)] = Dropped;
    }
}

/// The catalog at the start and after each of `commits` transactions, a quarter of which hold two or three commands.
fn history(rng: &mut Rng, commits: usize, generated_percent: u64) -> Vec<Vec<ColumnKind>> {
    let first =
        (0..rng.between(2, 8)).map(|i| if i > 0 && rng.chance(generated_percent / 2) { Generated } else { Ordinary });
    let mut columns: Vec<ColumnKind> = first.collect();
    let mut images = vec![columns.clone()];
    for _ in 0..commits {
        let commands = if rng.chance(75) { 1 } else { rng.between(2, 3) };
        for _ in 0..commands {
            command(rng, &mut columns, generated_percent);
        }
        images.push(columns.clone());
    }
    images
}

fn listed(image: &[ColumnKind]) -> Vec<i16> {
    (1..).zip(image).filter(|(_, kind)| **kind == Ordinary).map(|(attnum, _)| attnum).collect()
}

/// Possible places of every number (`None`: unlisted) by trying every set of columns that may be listed.
fn brute_force(older: &[ColumnKind], newer: &[ColumnKind], length: usize) -> Vec<BTreeSet<Option<usize>>> {
    let mut possible = vec![BTreeSet::new(); newer.len()];
    for set in 0u32..1 << newer.len() {
        let has = |i: usize| set >> i & 1 == 1;
        let fits = newer.iter().enumerate().all(|(i, kind)| match (older.get(i), kind) {
            (Some(Ordinary), Ordinary) => has(i),
            (Some(Dropped), _) | (_, Generated) => !has(i),
            _ => true,
        });
        if !fits || set.count_ones() as usize != length {
            continue;
        }
        for (i, places) in possible.iter_mut().enumerate() {
            places.insert(has(i).then(|| (0..i).filter(|&j| has(j)).count()));
        }
    }
    possible
}

fn as_set(place: Place) -> BTreeSet<Option<usize>> {
    match place {
        Place::Certain(place) => [Some(place)].into(),
        Place::NotListed => [None].into(),
        Place::Ambiguous { places, maybe_unlisted } => {
            places.into_iter().map(Some).chain(maybe_unlisted.then_some(None)).collect()
        }
    }
}

#[test]
fn interval_sums_equal_brute_force_over_every_possible_list() {
    let mut rng = Rng::seeded("interval_sums_equal_brute_force", 7);
    for round in 0..3000 {
        let commits = rng.between(1, 6);
        let images = history(&mut rng, commits, if round % 2 == 0 { 30 } else { 0 });
        let (older, newer) = (images.first().unwrap(), images.last().unwrap());
        if newer.len() > 14 {
            continue;
        }
        for length in 0..=newer.len() + 1 {
            let brute = brute_force(older, newer, length);
            match places(older, newer, length) {
                Ok(found) => {
                    let found: Vec<_> = (1..=newer.len() as i16).map(|attnum| as_set(found.place(attnum))).collect();
                    assert_eq!(found, brute, "older {older:?} newer {newer:?} length {length}");
                }
                Err(Contradiction::Length { .. }) => {
                    assert!(brute.iter().all(BTreeSet::is_empty), "older {older:?} newer {newer:?} length {length}");
                }
                Err(other) => panic!("a real history contradicts itself: {other:?}"),
            }
        }
    }
}

/// What became of all Relations of many histories.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    relations: usize,
    wrong: usize,
    contradictions: usize,
    ambiguous: usize,
}

/// Sends a Relation in each state of many histories. `older` and `newer` choose the images that the reader has.
fn run(
    rng: &mut Rng,
    generated_percent: u64,
    mut choose: impl FnMut(&mut Rng, usize, usize) -> (usize, usize),
    see: impl Fn(&[ColumnKind]) -> Vec<ColumnKind>,
) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..3000 {
        let commits = rng.between(1, 6);
        let images = history(rng, commits, generated_percent);
        for moment in 0..=commits {
            let (older, newer) = choose(rng, moment, commits);
            let truth = listed(&images[moment]);
            tally.relations += 1;
            match places(&see(&images[older]), &see(&images[newer]), truth.len()) {
                Ok(found) => {
                    let wrong = (1..=images[newer].len() as i16).any(|attnum| match found.place(attnum) {
                        Place::Certain(place) => truth.get(place) != Some(&attnum),
                        Place::NotListed => truth.contains(&attnum),
                        Place::Ambiguous { .. } => false,
                    });
                    let by_place = (0..truth.len()).all(|p| found.attnum_at(p).is_none_or(|attnum| truth[p] == attnum));
                    tally.wrong += usize::from(wrong || !by_place);
                    tally.ambiguous += usize::from(found.ambiguous().next().is_some());
                }
                Err(_) => tally.contradictions += 1,
            }
        }
    }
    println!("{tally:?}");
    tally
}

#[test]
fn inference_between_two_images_is_never_wrong() {
    let mut rng = Rng::seeded("inference_between_two_images_is_never_wrong", 1);
    for generated_percent in [0, 25, 60] {
        for every in [1, 2, 3, 100] {
            let around = |_: &mut Rng, moment: usize, last: usize| {
                let older = moment / every * every;
                (older, (older + every).min(last).max(moment))
            };
            let tally = run(&mut rng, generated_percent, around, <[_]>::to_vec);
            assert_eq!((tally.wrong, tally.contradictions), (0, 0), "a sample every {every} transactions");
            assert!(every == 1 || tally.ambiguous > 0, "the generator no longer makes hard cases");
        }
    }
}

#[test]
fn equal_images_are_always_exact() {
    let mut rng = Rng::seeded("equal_images_are_always_exact", 2);
    let tally = run(&mut rng, 25, |_, moment, _| (moment, moment), <[_]>::to_vec);
    assert_eq!((tally.wrong, tally.contradictions, tally.ambiguous), (0, 0, 0));
}

/// Why samples are fenced by visibility: this reader takes any image that is newer than the older one.
#[test]
fn an_image_that_may_be_older_than_the_relation_makes_inference_wrong() {
    let mut rng = Rng::seeded("an_image_that_may_be_older_than_the_relation", 3);
    let tally = run(&mut rng, 0, |rng, moment, last| (0, rng.between(0, last.min(moment))), <[_]>::to_vec);
    assert!(tally.wrong > 0);
}

/// Why generated columns are a kind of their own: this reader counts them as dropped.
#[test]
fn lumping_generated_columns_with_dropped_ones_does_not_fit() {
    let mut rng = Rng::seeded("lumping_generated_columns_with_dropped_ones", 4);
    let lump = |image: &[ColumnKind]| {
        image.iter().map(|&kind| if kind == Generated { Dropped } else { kind }).collect::<Vec<_>>()
    };
    let tally = run(&mut rng, 25, |_, _, last| (0, last), lump);
    assert!(tally.contradictions > 0);
}

fn place_list(places: &Places, attnums: i16) -> Vec<Place> {
    (1..=attnums).map(|attnum| places.place(attnum)).collect()
}

fn perhaps(places: &[usize]) -> Place {
    Place::Ambiguous { places: places.to_vec(), maybe_unlisted: true }
}

#[test]
fn two_drops_without_an_add_are_ambiguous() {
    let found = places(&[Ordinary; 3], &[Ordinary, Dropped, Dropped], 2).unwrap();
    assert_eq!(place_list(&found, 3), [Place::Certain(0), perhaps(&[1]), perhaps(&[1])]);
    assert_eq!([found.attnum_at(0), found.attnum_at(1), found.attnum_at(2)], [Some(1), None, None]);
}

#[test]
fn a_dropped_expression_in_the_middle_is_found_without_an_add() {
    let found = places(&[Ordinary, Generated, Ordinary], &[Ordinary; 3], 3).unwrap();
    assert_eq!(place_list(&found, 3), [Place::Certain(0), Place::Certain(1), Place::Certain(2)]);
    let before = places(&[Ordinary, Generated, Ordinary], &[Ordinary; 3], 2).unwrap();
    assert_eq!(place_list(&before, 3), [Place::Certain(0), Place::NotListed, Place::Certain(1)]);
}

#[test]
fn a_dropped_expression_beside_a_drop_is_ambiguous() {
    let older = [Ordinary, Generated, Ordinary, Ordinary];
    let newer = [Ordinary, Ordinary, Dropped, Ordinary];
    let found = places(&older, &newer, 3).unwrap();
    assert_eq!(place_list(&found, 4), [Place::Certain(0), perhaps(&[1]), perhaps(&[1]), Place::Certain(2)]);
}

#[test]
fn of_two_added_columns_one_may_have_been_generated_at_first() {
    let found = places(&[Ordinary], &[Ordinary; 3], 2).unwrap();
    assert_eq!(place_list(&found, 3), [Place::Certain(0), perhaps(&[1]), perhaps(&[1])]);
}

#[test]
fn a_column_can_have_several_places_and_no_gap_between_them() {
    let found = places(&[Ordinary; 4], &[Dropped, Dropped, Dropped, Ordinary], 2).unwrap();
    assert_eq!(found.place(4), Place::Certain(1));
    let found = places(&[Ordinary; 4], &[Dropped, Dropped, Ordinary, Dropped], 2).unwrap();
    assert_eq!(found.place(3), Place::Ambiguous { places: vec![0, 1], maybe_unlisted: false });
    assert_eq!(found.ambiguous().map(|(attnum, _)| attnum).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn without_an_older_image_a_table_without_drops_is_certain() {
    let found = places(&[], &[Ordinary; 3], 3).unwrap();
    assert_eq!(place_list(&found, 3), [Place::Certain(0), Place::Certain(1), Place::Certain(2)]);
    assert!(matches!(places(&[], &[Ordinary; 3], 2).unwrap().place(1), Place::Ambiguous { .. }));
}

#[test]
fn an_empty_list_is_possible() {
    let found = places(&[Ordinary], &[Dropped], 0).unwrap();
    assert_eq!(found.place(1), Place::NotListed);
    assert!(places(&[], &[], 0).is_ok());
}

#[test]
fn a_number_that_does_not_exist_is_not_listed() {
    let found = places(&[Ordinary], &[Ordinary], 1).unwrap();
    assert_eq!([-1, 0, 2, i16::MAX].map(|attnum| found.place(attnum)), [const { Place::NotListed }; 4]);
}

#[test]
fn impossible_pairs_are_contradictions() {
    assert_eq!(places(&[Ordinary; 2], &[Ordinary], 1), Err(Contradiction::Shrunk { older: 2, newer: 1 }));
    for (older, newer) in [(Dropped, Ordinary), (Dropped, Generated), (Ordinary, Generated)] {
        let expected = Contradiction::Reversed { attnum: 2, older, newer };
        assert_eq!(places(&[Ordinary, older], &[Ordinary, newer], 1), Err(expected));
    }
    for (length, fits) in [(1, false), (2, true), (3, true), (4, false), (usize::MAX, false)] {
        let found = places(&[Ordinary; 3], &[Ordinary, Dropped, Ordinary], length);
        let expected = Contradiction::Length { listed: length, least: 2, most: 3 };
        assert_eq!(found.err(), (!fits).then_some(expected));
    }
}

#[test]
fn a_contradiction_names_both_sides() {
    let table = QualifiedName { namespace: "public".into(), name: "orders".into() };
    let error = Contradiction::Length { listed: 4, least: 2, most: 3 }.error(&table, Lsn(0x1A2));
    assert_eq!(error.code(), Code::CatalogContradiction);
    let expected = "the columns of `public.orders` do not fit the catalog: \
                    the stream lists 4 columns, the catalog allows 2 to 3 at 0/1A2";
    assert_eq!(error.diagnosis(), expected);
}
