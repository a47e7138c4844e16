//! How the page looks.

use super::*;

#[test]
fn the_page_fits_the_width_of_a_phone() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "");
    page.resize(360, 740);
    let fits = |page: &mut Browser, what: &str| {
        let widths = "[innerWidth, document.documentElement.scrollWidth,
            ...[...document.querySelectorAll('section, .card, .events')].map(box =>
                box.scrollWidth - box.clientWidth)]";
        let widths = page.evaluate(widths);
        assert_eq!(widths[0], 360, "{what}");
        assert!(widths[1].as_u64().unwrap() <= 360, "{what}: {widths}");
        let widths = &widths.as_array().unwrap()[2..];
        assert!(widths.iter().all(|excess| excess == 0), "{what}: {widths:?}");
    };
    page.wait_for("document.querySelector('.line') !== null", TIMEOUT);
    fits(&mut page, "two streams, one with a chart");

    let long = "word".repeat(60);
    page.subscribe(&long[..128]);
    page.publish(&long[..128], &long, &long);
    let gap = json!({ "reason": "unknown", "requested": long, "earliest": long, "latest": long });
    page.publish(&long[..128], "gap", &gap.to_string());
    page.wait_for("document.querySelector('.events .gap') !== null", TIMEOUT);
    page.evaluate("document.querySelectorAll('.events button.id').forEach(id => id.click())");
    page.evaluate("document.querySelectorAll('details').forEach(more => (more.open = true))");
    page.wait_for("document.querySelector('#topics').textContent.includes('wordword')", TIMEOUT);
    fits(&mut page, "events and topics with long words");
    let answer = page.publish(&long, "", "");
    assert!(answer.starts_with("400 "), "{answer}");
    fits(&mut page, "a long error of a publication");
    page.evaluate(&format!("location.hash = 'stream=/topics/{long}'"));
    page.wait_for_state("failed");
    fits(&mut page, "a long error of a subscription");
}

/// Returns the contrasts of all borders of controls, with what is around them, that are below 3:1,
/// and the number of borders.
const LOW_CONTRASTS: &str = "(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const luminance = (color) => {
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const background = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        return color === 'rgba(0, 0, 0, 0)' ? background(node.parentElement) : color;
    };
    const low = [];
    let count = 0;
    for (const node of document.querySelectorAll('button, input, select, textarea')) {
        const { borderTopWidth, borderTopColor } = getComputedStyle(node);
        if (borderTopWidth === '0px' || node.offsetWidth === 0) continue;
        count += 1;
        const [a, b] = [borderTopColor, background(node.parentElement)].map(luminance);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 3) low.push([node.outerHTML, contrast]);
    }
    return [low, count];
})()";

#[test]
fn borders_of_controls_have_a_contrast_of_three() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/counter");
    page.resize(800, 900);
    for scheme in ["light", "dark"] {
        page.prefer_color_scheme(scheme);
        let is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches");
        assert_eq!(is_dark, scheme == "dark");
        let found = page.evaluate(LOW_CONTRASTS);
        assert_eq!(found[0], json!([]), "{scheme}");
        assert!(found[1].as_u64().unwrap() > 15, "{scheme}: {found}");
    }
}
