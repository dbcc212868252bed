// The browser's half of pad.py. Strokes are drawn here, at once; the kernel gets the pixels, one
// byte each, when a stroke ends.
const SIDE = 28;
const RADIUS = { draw: 2.1, erase: 2.6 }; // of the brush, in pixels; the outermost one is grey

const PAGE = `
  <div role="group" aria-label="Drawing pad" data-lm-suppress-shortcuts="true"
       data-jp-suppress-context-menu style="width: 280px; max-width: 100%">
    <canvas width="${SIDE}" height="${SIDE}" role="img" style="display: block; width: 100%;
      aspect-ratio: 1; image-rendering: pixelated; touch-action: none; cursor: crosshair;
      outline: 1px solid #767676" title="Shift or the right button erases."></canvas>
    <button type="button" style="width: 46%" class="jupyter-widgets jupyter-button widget-button">Clear</button>
    <button type="button" style="width: 46%" class="jupyter-widgets jupyter-button widget-button"></button>
    <p role="status" style="margin: 4px 0"></p>
  </div>`;

/** Return the distance from a point to the segment between two others. */
function distance(x, y, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length2 = dx * dx + dy * dy;
  const along = length2 ? ((x - x0) * dx + (y - y0) * dy) / length2 : 0;
  const share = Math.min(1, Math.max(0, along));
  return Math.hypot(x - x0 - share * dx, y - y0 - share * dy);
}

function render({ model, el }) {
  el.innerHTML = PAGE;
  const canvas = el.querySelector("canvas");
  const [clear, eraser] = el.querySelectorAll("button");
  const status = el.querySelector("[role=status]");
  const context = canvas.getContext("2d");
  const pixels = new Uint8ClampedArray(SIDE * SIDE); // 0 is black, 255 is ink; rounds by itself
  let erasing = false; // what the button says
  let stroke = null; // while one is drawn: its pointer, its last place, whether it erases

  function paint() {
    const image = context.createImageData(SIDE, SIDE);
    pixels.forEach((p, i) => image.data.set([p, p, p, 255], 4 * i));
    context.putImageData(image, 0, 0);
    const inked = pixels.filter((p) => p > 0).length;
    const said = inked ? `${inked} of ${SIDE * SIDE} pixels hold ink.` : "The pad is empty.";
    canvas.setAttribute("aria-label", `Drawing of ${SIDE} by ${SIDE} pixels. ${said}`);
    status.textContent = model.get("_trouble") || said;
    eraser.textContent = erasing ? "Eraser: on" : "Eraser: off";
  }

  function receive() {
    if (stroke) return; // the hand goes before: its pixels are sent when it lifts
    const given = model.get("_pixels");
    pixels.set(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
    paint();
  }

  function send() {
    model.set("_pixels", new DataView(pixels.slice().buffer));
    model.save_changes();
    paint();
  }

  function moveTo(event) {
    const box = canvas.getBoundingClientRect();
    const place = [event.clientX - box.left, event.clientY - box.top].map(
      (p) => (p * SIDE) / box.width,
    );
    const radius = stroke.erases ? RADIUS.erase : RADIUS.draw;
    pixels.forEach((p, i) => {
      const [x, y] = [(i % SIDE) + 0.5, Math.floor(i / SIDE) + 0.5];
      const far = distance(x, y, stroke.place ?? place, place);
      const ink = 255 * Math.min(1, Math.max(0, radius - far));
      pixels[i] = stroke.erases ? Math.min(p, 255 - ink) : Math.max(p, ink);
    });
    stroke.place = place;
    paint();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (stroke || ![0, 2].includes(event.button)) return;
    event.preventDefault();
    const erases = erasing || event.shiftKey || event.button === 2;
    stroke = { pointer: event.pointerId, place: null, erases };
    canvas.setPointerCapture(event.pointerId);
    moveTo(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (stroke?.pointer !== event.pointerId) return;
    const seen = event.getCoalescedEvents?.() ?? [];
    (seen.length ? seen : [event]).forEach(moveTo);
  });
  canvas.addEventListener("lostpointercapture", (event) => {
    if (stroke?.pointer !== event.pointerId) return;
    stroke = null;
    send();
  });
  canvas.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    event.stopPropagation();
  });
  clear.addEventListener("click", () => {
    pixels.fill(0);
    send();
  });
  eraser.addEventListener("click", () => {
    erasing = !erasing;
    paint();
  });
  model.on("change:_pixels", receive);
  model.on("change:_trouble", paint);
  receive();
  return () => {
    model.off("change:_pixels", receive);
    model.off("change:_trouble", paint);
  };
}

export default { render };
