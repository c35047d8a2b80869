//! Numbers as people read them.

/// `1,067,520`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.07 million`; below ten thousand as [`count`].
pub(crate) fn short(n: u64) -> String {
    let x = n as f64;
    let (scaled, word) = match n {
        0..10_000 => return count(n),
        10_000..1_000_000 => (x / 1e3, "thousand"),
        1_000_000..1_000_000_000 => (x / 1e6, "million"),
        1_000_000_000..1_000_000_000_000 => (x / 1e9, "billion"),
        _ => (x / 1e12, "trillion"),
    };
    format!("{} {word}", significant(scaled, 3))
}

/// `x` to `digits` significant digits, without exponent between 1e-4 and 1e6.
pub(crate) fn significant(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let magnitude = x.abs().log10().floor() as i32;
    if !(-4..6).contains(&magnitude) {
        let mantissa = x / 10f64.powi(magnitude);
        return format!("{mantissa:.*} × 10{}", digits.min(3) - 1, superscript(magnitude));
    }
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    format!("{x:.decimals$}").replace('-', "\u{2212}")
}

/// `+0.031`, `−0.004`.
pub(crate) fn signed(x: f64, decimals: usize) -> String {
    let text = format!("{x:+.decimals$}").replace('-', "\u{2212}");
    // A difference that rounds to nothing has no sign.
    if text.trim_start_matches(['+', '\u{2212}']).chars().all(|c| c == '0' || c == '.') {
        return format!("{:.decimals$}", 0.0);
    }
    text
}

/// `0.812`, `−0.004`.
pub(crate) fn fixed(x: f64, decimals: usize) -> String {
    signed(x, decimals).trim_start_matches('+').to_owned()
}

/// `3.4 × 10¹⁶`.
pub(crate) fn scientific(x: f64) -> String {
    let magnitude = x.abs().log10().floor();
    if !magnitude.is_finite() {
        return x.to_string();
    }
    format!("{:.1} × 10{}", x / 10f64.powf(magnitude), superscript(magnitude as i32))
}

pub(crate) fn superscript(n: i32) -> String {
    let digit = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0' => '⁰',
        c => char::from_u32('⁴' as u32 + (c as u32 - '4' as u32)).unwrap_or(c),
    };
    n.to_string().chars().map(digit).collect()
}

/// `2 h 13 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        7200..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_067_520), "1,067,520");
        assert_eq!(count(12), "12");
        assert_eq!(short(1_067_520), "1.07 million");
        assert_eq!(short(9_830_400_000), "9.83 billion");
        assert_eq!(significant(0.367_812, 4), "0.3678");
        assert_eq!(significant(-12.0, 3), "−12.0");
        assert_eq!(significant(1.6e-7, 2), "1.6 × 10⁻⁷");
        assert_eq!(scientific(6.34e16), "6.3 × 10¹⁶");
        assert_eq!(signed(-0.0001, 3), "0.000");
        assert_eq!(signed(0.0312, 3), "+0.031");
        assert_eq!(fixed(-0.5, 2), "−0.50");
        assert_eq!(duration(8000.0), "2 h 13 min");
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(200_000.0), "2 d 7 h");
    }
}
