//! Objects of one split that are known from another: the same id, the same place on the sky,
//! the same picture.
//!
//! A model that has seen a test object is not tested by it. Splits by a hash of the id keep an
//! object in one of them, but surveys overlap, catalogues list a galaxy twice, and a picture is
//! there again under another name, turned or compressed anew.

mod fine;
mod picture;
mod pixels;
mod sky;

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::data::{Objects, Split, Splits, check_degrees, position};
use crate::error::Result;
use crate::observation::{Array, Observation};
use crate::progress::Progress;
use crate::stop;
use fine::Fine;
use picture::{Picture, is_picture};
use pixels::{COARSE, Coarse};
use sky::Place;

/// What two objects are compared by.
#[derive(Clone, Debug)]
pub struct LeakSettings {
    /// Label of the right ascension, in degrees.
    pub ra: String,
    /// Label of the declination, in degrees.
    pub dec: String,
    /// Objects nearer than this many arcseconds are one.
    pub separation: f64,
    /// Whether pictures are compared, which reads every object.
    pub pixels: bool,
    /// How many pairs of pictures that are alike as a whole are looked at closely, the most alike
    /// ones.
    pub pairs: usize,
}

/// Two objects of different splits that are one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leak {
    /// What tells.
    #[serde(flatten)]
    pub by: By,
    /// Ids.
    pub ids: [String; 2],
    /// Their splits.
    pub splits: [Split; 2],
}

/// What tells that two objects are one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum By {
    /// They have the same id.
    Id,
    /// They stand so near on the sky.
    Sky {
        /// Their separation in arcseconds.
        separation: f64,
    },
    /// Their pictures are the same, turned or mirrored perhaps.
    Pixels {
        /// Correlation of what is finer than a tenth of the pictures.
        correlation: f64,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leaks {
    /// Objects of all splits.
    pub objects: usize,
    /// Objects whose place on the sky is known.
    pub placed: usize,
    /// Objects whose picture was compared.
    pub pictured: usize,
    /// Objects that could not be read.
    pub unread: usize,
    /// Ids that several objects of one split have: no leak, and no good sign.
    pub repeated: Vec<String>,
    /// Objects with a picture that is blank or nowhere finite: like every other, so compared with
    /// none.
    pub blank: usize,
    /// Pairs of one object in two splits.
    pub leaks: Vec<Leak>,
    /// Whether there are more than are listed.
    pub more: bool,
    /// Pairs whose pictures are the same and whose places are more than a degree apart: point
    /// sources look alike. No leaks.
    pub elsewhere: Vec<Leak>,
    /// Pairs of pictures that are alike as a whole, too, and were not looked at closely.
    pub unlooked: u64,
    /// Pairs of pictures that are alike as a whole and could not be compared closely: one of them could
    /// not be read again, has no detail, or they have too little in common that is finite.
    pub uncompared: u64,
}

/// Most pairs that are listed, of each kind.
const MOST: usize = 100_000;
/// Arcseconds from which two places are surely two objects, whatever their pictures.
const ELSEWHERE: f64 = 3600.0;
/// Objects or pairs between two looks at whether to stop.
const BLOCK: usize = 512;

/// An object: its index in the source, and its split.
type Member = (u32, Split);

/// Looks for objects of `objects`' source that are in more than one split.
///
/// # Errors
/// When labels are no coordinates, or not in degrees, a file cannot be fetched, or the user
/// interrupts.
pub fn find(objects: &Objects, splits: &Splits, settings: &LeakSettings) -> Result<Leaks> {
    check_degrees(&objects.label_units, &settings.ra, &settings.dec)?;
    let all = members(splits);
    let mut found = Leaks { objects: all.len(), ..Leaks::default() };
    by_id(objects, &all, &mut found);
    let places = by_place(objects, &all, settings, &mut found)?;
    if settings.pixels {
        by_pixels(objects, &all, &places, settings.pairs, &mut found)?;
    }
    Ok(found)
}

fn members(splits: &Splits) -> Vec<Member> {
    let of = |split: Split| splits.get(split).iter().map(move |&index| (index, split));
    let all = [Split::Train, Split::Validation, Split::Test].into_iter().flat_map(of);
    let mut all: Vec<Member> = all.collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    all
}

/// Pairs of places in `all`, with their names.
fn listed(objects: &Objects, all: &[Member], pairs: Vec<(usize, usize, By)>) -> Vec<Leak> {
    let id = |k: usize| objects.source.id(all[k].0 as usize);
    let leak = |(a, b, by): (usize, usize, By)| Leak {
        by,
        ids: [id(a), id(b)],
        splits: [all[a].1, all[b].1],
    };
    pairs.into_iter().map(leak).collect()
}

impl Leaks {
    /// Adds pairs of places in `all`; as many as may be listed.
    fn add(&mut self, objects: &Objects, all: &[Member], mut pairs: Vec<(usize, usize, By)>) {
        self.more |= pairs.len() >= MOST;
        pairs.truncate(MOST);
        self.leaks.extend(listed(objects, all, pairs));
    }
}

fn by_id(objects: &Objects, all: &[Member], found: &mut Leaks) {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (k, (index, split)) in all.iter().enumerate() {
        let id = objects.source.id(*index as usize);
        match first.get(&id) {
            None => {
                first.insert(id, k);
            }
            Some(&other) if all[other].1 == *split => found.repeated.push(id),
            Some(&other) => pairs.push((other, k, By::Id)),
        }
    }
    found.add(objects, all, pairs);
}

fn by_place(
    objects: &Objects,
    all: &[Member],
    settings: &LeakSettings,
    found: &mut Leaks,
) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (k, (index, split)) in all.iter().enumerate() {
        let (id, labels) =
            (objects.source.id(*index as usize), objects.source.labels(*index as usize));
        if let Some((ra, dec)) = position(&id, &labels, &settings.ra, &settings.dec)? {
            places.push(Place::new(k, *split, ra, dec));
        }
    }
    found.placed = places.len();
    let pairs = sky::near(&places, settings.separation, MOST);
    let pairs = pairs.into_iter().map(|(a, b, separation)| (a, b, By::Sky { separation }));
    found.add(objects, all, pairs.collect());
    Ok(places)
}

/// `places` are those of the objects that have one, in the order of `all`.
fn by_pixels(
    objects: &Objects,
    all: &[Member],
    places: &[Place],
    most: usize,
    found: &mut Leaks,
) -> Result<()> {
    let (pictured, numbers) = coarse_pictures(objects, all, found)?;
    let splits: Vec<Split> = pictured.iter().map(|&k| all[k].1).collect();
    let mut progress = Progress::new("leaks", pictured.len() as u64, 0);
    let alike = Coarse::new(numbers, COARSE).alike(&splits, most, |done| {
        progress.update(done as u64, "compared");
        go_on()
    })?;
    found.unlooked = alike.more;
    progress.finish(&format!("{} pairs to look at closely", alike.pairs.len()));
    let mut progress = Progress::new("leaks", alike.pairs.len() as u64, 0);
    let (mut pairs, mut elsewhere) = (Vec::new(), Vec::new());
    for (block, candidates) in alike.pairs.chunks(BLOCK).enumerate() {
        go_on()?;
        let close = |&(_, a, b): &(f32, u32, u32)| {
            let (a, b) = (pictured[a as usize], pictured[b as usize]);
            same(objects, all[a].0, all[b].0).map(|seen| (a, b, seen))
        };
        for read in candidates.par_iter().map(close).collect::<Vec<Result<_>>>() {
            let Some((a, b, seen)) = or_ended(read)? else {
                found.uncompared += 1;
                continue;
            };
            match seen {
                Seen::Nothing => found.uncompared += 1,
                Seen::Two => {}
                Seen::One(correlation) if apart(places, a, b) > ELSEWHERE => {
                    elsewhere.push((a, b, By::Pixels { correlation }));
                }
                Seen::One(correlation) => pairs.push((a, b, By::Pixels { correlation })),
            }
        }
        progress.update((block * BLOCK + candidates.len()) as u64, "pairs looked at closely");
    }
    progress.finish(&format!("{} pairs are the same", pairs.len() + elsewhere.len()));
    for list in [&mut pairs, &mut elsewhere] {
        list.sort_unstable_by_key(|(a, b, _)| (*a, *b));
    }
    found.elsewhere = listed(objects, all, elsewhere);
    found.add(objects, all, pairs);
    Ok(())
}

/// Which members of `all` have a picture, and these, coarse, one after the other.
fn coarse_pictures(
    objects: &Objects,
    all: &[Member],
    found: &mut Leaks,
) -> Result<(Vec<usize>, Vec<f32>)> {
    let (mut pictured, mut numbers) = (Vec::new(), Vec::new());
    let mut progress = Progress::new("leaks", all.len() as u64, 0);
    // A block at a time, so that a person sees how far it is and can stop it.
    for (block, members) in all.chunks(BLOCK).enumerate() {
        go_on()?;
        let coarse = members.par_iter().map(|(index, _)| {
            let array = picture(objects, *index)?;
            Ok(array.map(|array| pixels::coarse(&Picture::new(&array)?)))
        });
        for (k, read) in coarse.collect::<Vec<Result<_>>>().into_iter().enumerate() {
            match or_ended(read)? {
                Some(Some(Some(coarse))) => {
                    pictured.push(block * BLOCK + k);
                    numbers.extend_from_slice(&coarse);
                }
                Some(Some(None)) => found.blank += 1,
                // No picture.
                Some(None) => {}
                None => found.unread += 1,
            }
        }
        progress.update((block * BLOCK + members.len()) as u64, "read");
    }
    found.pictured = pictured.len();
    progress.finish(&format!("{} pictures read", pictured.len()));
    Ok((pictured, numbers))
}

/// What was read; `None` of what could not be.
///
/// # Errors
/// What ends the work.
fn or_ended<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.ends_work() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What two pictures are, looked at closely.
enum Seen {
    /// They cannot be compared.
    Nothing,
    Two,
    /// With the correlation of their detail.
    One(f64),
}

fn same(objects: &Objects, a: u32, b: u32) -> Result<Seen> {
    let read = |index: u32| -> Result<Option<Picture>> {
        Ok(picture(objects, index)?.and_then(|array| Picture::new(&array)))
    };
    let (Some(a), Some(b)) = (read(a)?, read(b)?) else { return Ok(Seen::Nothing) };
    let side = fine::common_side(&a, &b);
    let (a, b) = (Fine::new(&a, side), Fine::new(&b, side));
    Ok(match a.zip(b).and_then(|(a, b)| a.correlation(&b)) {
        None => Seen::Nothing,
        Some(correlation) if correlation >= fine::same(side) => Seen::One(correlation),
        Some(_) => Seen::Two,
    })
}

/// Arcseconds between two members; 0 where one has no place.
fn apart(places: &[Place], a: usize, b: usize) -> f64 {
    let of = |k: usize| places.binary_search_by_key(&k, Place::object).ok();
    of(a).zip(of(b)).map_or(0.0, |(a, b)| places[a].separation(&places[b]))
}

/// # Errors
/// When the user wants to stop.
fn go_on() -> Result<()> {
    if stop::asked() { Err(stop::stopped(" before all objects were compared")) } else { Ok(()) }
}

/// The picture of an object: its first field with an axis for rows and one for columns, or what
/// the first of its tokens make one of, where the source has tokens alone.
fn picture(objects: &Objects, index: u32) -> Result<Option<Array>> {
    if objects.source.tokenised().is_none() {
        let Observation { fields, .. } = objects.source.read(index as usize)?;
        return Ok(fields.into_values().map(|field| field.array).find(is_picture));
    }
    let (_, row) = objects.read(index as usize)?;
    for (name, tokens) in row {
        if let Some(modality) = objects.modalities.get(&name) {
            let array = modality.detokenise(&tokens)?;
            if is_picture(&array) {
                return Ok(Some(array));
            }
        }
    }
    Ok(None)
}
