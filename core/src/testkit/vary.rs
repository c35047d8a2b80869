//! Objects as no modality expects them: a sample changed at random, and objects made up from
//! nothing but the names in a configuration. The same at every run.

use crate::observation::{Array, Data, Field, Label, Observation};

/// Numbers without a pattern (SplitMix64, Steele, Lea & Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is above 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number in 0..1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Numbers that break arithmetic.
const NASTY: [f64; 12] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    0.0,
    -0.0,
    -1.0,
    3.4e38,
    -3.4e38,
    1e300,
    1e-45,
    9.3e18,
    0.5,
];

/// A change of an object, in words and in fact.
type Change = (&'static str, fn(&mut Observation, &mut Random));

const CHANGES: [Change; 15] = [
    ("nothing", |_, _| {}),
    ("another type of numbers", |o, r| on_a_field(o, r, |a, r| a.data = cast(&a.data, r))),
    ("numbers in another unit", |o, r| {
        let factor = 10f64.powi(r.below(60) as i32 - 30);
        on_a_field(o, r, |a, _| a.data = map(&a.data, |x| x * factor));
    }),
    ("numbers moved away from 0", |o, r| {
        let offset = r.pick(&NASTY[3..9]);
        on_a_field(o, r, |a, _| a.data = map(&a.data, |x| x + offset));
    }),
    ("numbers that break arithmetic here and there", |o, r| on_a_field(o, r, sprinkle)),
    ("one number everywhere", |o, r| {
        let x = r.pick(&NASTY);
        on_a_field(o, r, |a, _| a.data = map(&a.data, |_| x));
    }),
    ("rows in another order", |o, r| on_rows(o, r, |n, r| (0..n).map(|_| r.below(n)).collect())),
    ("rows backwards", |o, r| on_rows(o, r, |n, _| (0..n).rev().collect())),
    ("fewer rows", |o, r| on_rows(o, r, |n, r| (0..r.below(n)).collect())),
    ("more rows", |o, r| on_rows(o, r, |n, r| (0..n * (2 + r.below(3))).map(|i| i % n).collect())),
    ("one array shorter than the others", |o, r| {
        on_a_field(o, r, |a, r| {
            let n = a.shape.first().copied().unwrap_or(0);
            if n > 1 && n <= a.data.len() {
                select(a, &(0..1 + r.below(n - 1)).collect::<Vec<_>>());
            }
        });
    }),
    ("another shape", |o, r| on_a_field(o, r, reshape)),
    ("an array that is not there", |o, r| {
        let name = field_name(o, r);
        o.fields.retain(|key, _| Some(key) != name.as_ref());
    }),
    ("another unit", |o, r| {
        let unit = r.pick(&[Some("furlong"), Some(""), None]).map(str::to_owned);
        if let Some(field) = field_name(o, r).and_then(|name| o.fields.get_mut(&name)) {
            field.unit = unit;
        }
    }),
    ("other labels", relabel),
];

/// The sample with up to three things changed, and which.
pub(super) fn varied(sample: &Observation, random: &mut Random) -> (String, Observation) {
    let mut observation = sample.clone();
    let mut words = Vec::new();
    for _ in 0..1 + random.below(3) {
        let (name, change) = random.pick(&CHANGES);
        change(&mut observation, random);
        words.push(name);
    }
    (words.join(", then "), observation)
}

/// An object with fields and labels of these names and whatever in them.
pub(super) fn made_up(names: &[String], random: &mut Random) -> Observation {
    let mut observation = Observation { id: "made-up".to_owned(), ..Observation::default() };
    // Most arrays agree in length, or nothing beyond the first check would be tried.
    let common = 1 + random.below(40);
    for name in names {
        if random.below(4) > 0 {
            let rank = random.pick(&[1, 1, 1, 1, 0, 2, 3, 4]);
            let side = |r: &mut Random| if r.below(8) > 0 { common } else { r.below(9) };
            let shape: Vec<usize> = match rank {
                1 => vec![side(random)],
                rank => (0..rank).map(|_| random.below(9)).collect(),
            };
            let numbers = numbers(shape.iter().product(), random);
            let array = Array { shape, data: cast(&Data::F64(numbers), random) };
            observation.fields.insert(name.clone(), Field { array, unit: None });
        }
        observation.labels.insert(name.clone(), Label::Number(0.0));
    }
    relabel(&mut observation, random);
    observation
}

/// Ascending, small, or nasty numbers.
fn numbers(n: usize, random: &mut Random) -> Vec<f64> {
    let kind = random.below(3);
    let number = |i: usize| match kind {
        0 => 1.0 + i as f64,
        1 => (random.share() * 10.0).floor(),
        _ if random.below(4) == 0 => random.pick(&NASTY),
        _ => random.share() * 20.0 - 10.0,
    };
    (0..n).map(number).collect()
}

fn field_name(observation: &Observation, random: &mut Random) -> Option<String> {
    let names: Vec<&String> = observation.fields.keys().collect();
    (!names.is_empty()).then(|| names[random.below(names.len())].clone())
}

fn on_a_field(
    observation: &mut Observation,
    random: &mut Random,
    change: impl FnOnce(&mut Array, &mut Random),
) {
    let name = field_name(observation, random);
    if let Some(field) = name.and_then(|name| observation.fields.get_mut(&name)) {
        change(&mut field.array, random);
    }
}

/// The same rows of every array that has as many as the first.
fn on_rows(
    observation: &mut Observation,
    random: &mut Random,
    rows: impl FnOnce(usize, &mut Random) -> Vec<usize>,
) {
    let sound =
        |field: &&Field| Array::new(field.array.shape.clone(), field.array.data.clone()).is_ok();
    let first = observation.fields.values().find(sound);
    let n = first.and_then(|field| field.array.shape.first().copied()).unwrap_or(0);
    if n == 0 {
        return;
    }
    let rows = rows(n, random);
    for field in observation.fields.values_mut() {
        if field.array.shape.first() == Some(&n) && sound(&&*field) {
            select(&mut field.array, &rows);
        }
    }
}

/// Keeps these of the rows there are.
fn select(array: &mut Array, rows: &[usize]) {
    fn of<T: Copy>(numbers: &[T], width: usize, rows: &[usize]) -> Vec<T> {
        rows.iter().flat_map(|&row| numbers[row * width..].iter().take(width).copied()).collect()
    }
    let width = array.data.len() / array.shape[0];
    array.data = match &array.data {
        Data::U8(v) => Data::U8(of(v, width, rows)),
        Data::U16(v) => Data::U16(of(v, width, rows)),
        Data::F32(v) => Data::F32(of(v, width, rows)),
        Data::F64(v) => Data::F64(of(v, width, rows)),
        Data::I64(v) => Data::I64(of(v, width, rows)),
    };
    array.shape[0] = rows.len();
}

fn map(data: &Data, f: impl Fn(f64) -> f64) -> Data {
    Data::F64(data.to_f64().iter().map(|&x| f(x)).collect())
}

fn sprinkle(array: &mut Array, random: &mut Random) {
    let one_in = 1 + random.below(30);
    let mut numbers = array.data.to_f64().into_owned();
    for x in &mut numbers {
        if random.below(one_in) == 0 {
            *x = random.pick(&NASTY);
        }
    }
    array.data = Data::F64(numbers);
}

/// The numbers in another type, cut to what it holds.
fn cast(data: &Data, random: &mut Random) -> Data {
    let numbers = data.to_f64();
    match random.below(5) {
        0 => Data::U8(numbers.iter().map(|&x| x as u8).collect()),
        1 => Data::U16(numbers.iter().map(|&x| x as u16).collect()),
        2 => Data::F32(numbers.iter().map(|&x| x as f32).collect()),
        3 => Data::I64(numbers.iter().map(|&x| x as i64).collect()),
        _ => Data::F64(numbers.into_owned()),
    }
}

fn reshape(array: &mut Array, random: &mut Random) {
    let n = array.data.len();
    array.shape = match random.below(6) {
        0 => vec![n],
        1 => vec![n, 1],
        2 => vec![1, n],
        3 => array.shape.iter().rev().copied().collect(),
        4 => array.shape.iter().map(|d| d + 1).collect(),
        _ => vec![usize::MAX, 2],
    };
}

fn relabel(observation: &mut Observation, random: &mut Random) {
    for label in observation.labels.values_mut() {
        *label = match random.below(4) {
            0 => Label::Text("unknown".to_owned()),
            1 => Label::Number(random.pick(&NASTY)),
            2 => Label::Number(random.below(5) as f64),
            _ => Label::Number(random.share() * 20.0 - 10.0),
        };
    }
    observation.labels.retain(|_, _| random.below(4) > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_many_and_the_same_at_every_run() {
        let array =
            Array { shape: vec![6, 2], data: Data::F32((0..12).map(|x| x as f32).collect()) };
        let field = Field { array, unit: None };
        let sample = Observation {
            id: "x".into(),
            fields: [("flux".to_owned(), field)].into(),
            labels: [("z".to_owned(), Label::Number(0.1))].into(),
        };
        let all = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| format!("{:?}", varied(&sample, &mut random))).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        let mut distinct = all(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 120, "{}", distinct.len());
    }

    #[test]
    fn made_up_objects_have_what_their_shapes_say() {
        let names = ["flux".to_owned(), "time".to_owned()];
        let mut random = Random::new(3);
        let mut fields = 0;
        for _ in 0..100 {
            for field in made_up(&names, &mut random).fields.values() {
                let Array { shape, data } = &field.array;
                assert_eq!(shape.iter().product::<usize>(), data.len());
                fields += 1;
            }
        }
        assert!(fields > 100);
    }
}
