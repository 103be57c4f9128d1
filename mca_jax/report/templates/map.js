(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const total = data.x.length;
  if (!total) return;
  const get = (id) => document.getElementById(id);
  const frame = get("map-frame");
  const stage = get("map-stage");
  const canvas = get("map-canvas");
  const tip = get("map-tip");
  const thumb = get("map-picture");
  const choice = get("map-cluster");
  const live = get("map-live");
  const context = canvas.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const MARGIN = 28;
  const MOST_ZOOM = 60;
  const REACH = 16;
  const MOST_STRETCH = 1.8;

  const count = data.names.length;
  const members = Array.from({ length: count }, () => []);
  data.cluster.forEach((cluster, index) => members[cluster].push(index));
  const bySize = Array.from(members.keys()).sort(
    (a, b) => members[b].length - members[a].length || a - b,
  );
  const widest = Math.max(1, ...data.x);
  const highest = Math.max(1, ...data.y);

  let width = 0;
  let height = 0;
  let baseX = 1;
  let baseY = 1;
  let zoom = 1;
  let middle = [widest / 2, highest / 2];
  let selected = -1;
  let fixed = false;
  let printing = false;
  let waiting = false;

  // Neighbours in the list of sizes get hues far apart, of one lightness.
  const places = new Array(count);
  bySize.forEach((cluster, place) => (places[cluster] = place));
  const colour = (cluster) => {
    const hue = (29 + places[cluster] * 137.508) % 360;
    const light = dark.matches && !printing ? 0.76 : 0.58;
    return `oklch(${light - 0.07 * (places[cluster] % 2)} 0.14 ${hue})`;
  };
  const theme = (name, printed) =>
    printing
      ? printed
      : getComputedStyle(document.documentElement).getPropertyValue(name);

  const sheets = data.sheets.map(() => null);
  const sheet = (number) => {
    if (!sheets[number]) {
      const image = new Image();
      image.addEventListener("load", () => draw());
      image.src = data.sheets[number];
      sheets[number] = image;
    }
    return sheets[number];
  };
  const drawTile = (target, index, left, top, edge) => {
    const slot = data.tile[index];
    if (slot < 0) return false;
    const perSheet = data.columns * data.columns;
    const image = sheet(Math.floor(slot / perSheet));
    if (!image.complete || !image.naturalWidth) return false;
    const place = slot % perSheet;
    target.drawImage(
      image,
      (place % data.columns) * data.edge,
      Math.floor(place / data.columns) * data.edge,
      data.edge,
      data.edge,
      left,
      top,
      edge,
      edge,
    );
    return true;
  };

  const scaleX = () => baseX * zoom;
  const scaleY = () => baseY * zoom;
  const screenX = (index) => (data.x[index] - middle[0]) * scaleX() + width / 2;
  const screenY = (index) => (data.y[index] - middle[1]) * scaleY() + height / 2;
  const inside = (x, y, by = 0) =>
    x >= -by && y >= -by && x <= width + by && y <= height + by;
  const shown = (cluster) => choice.value === "" || Number(choice.value) === cluster;

  const keepInside = () => {
    zoom = Math.min(Math.max(zoom, 1), MOST_ZOOM);
    const slackX = Math.max(0, widest / 2 - (width / 2 - MARGIN) / scaleX());
    const slackY = Math.max(0, highest / 2 - (height / 2 - MARGIN) / scaleY());
    middle = [
      Math.min(Math.max(middle[0], widest / 2 - slackX), widest / 2 + slackX),
      Math.min(Math.max(middle[1], highest / 2 - slackY), highest / 2 + slackY),
    ];
    // The whole map lets a finger scroll the page; a part of it is moved.
    canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";
  };

  const visible = () => {
    const found = [];
    for (let index = 0; index < total; index += 1) {
      if (
        shown(data.cluster[index]) &&
        inside(screenX(index), screenY(index))
      ) {
        found.push(index);
      }
    }
    return found;
  };

  const drawPoints = () => {
    const radius = Math.min(2 + 30 / Math.sqrt(total) + Math.log2(zoom) * 0.7, 7);
    for (const cluster of bySize) {
      context.globalAlpha = shown(cluster) ? 0.85 : 0.1;
      context.fillStyle = colour(cluster);
      context.beginPath();
      for (const index of members[cluster]) {
        const x = screenX(index);
        const y = screenY(index);
        if (!inside(x, y, radius)) continue;
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 7);
      }
      context.fill();
    }
    context.globalAlpha = 1;
  };

  const drawTiles = () => {
    if (zoom < 2) return;
    const near = visible();
    const edge = Math.min(0.55 * Math.sqrt((width * height) / near.length), 96);
    if (edge < 28) return;
    for (const index of near) {
      const left = screenX(index) - edge / 2;
      const top = screenY(index) - edge / 2;
      if (!drawTile(context, index, left, top, edge)) continue;
      context.lineWidth = 2;
      context.strokeStyle = colour(data.cluster[index]);
      context.strokeRect(left, top, edge, edge);
    }
  };

  const shorten = (name) => (name.length > 28 ? `${name.slice(0, 27)}…` : name);
  const drawLabels = () => {
    context.font = `600 14px ${getComputedStyle(document.body).fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    context.strokeStyle = theme("--surface", "#ffffff");
    context.fillStyle = theme("--text", "#1b1f23");
    const taken = [];
    for (const cluster of bySize) {
      if (!data.labels[cluster].length || !shown(cluster)) continue;
      const text = shorten(data.names[cluster]);
      const half = context.measureText(text).width / 2 + 5;
      const [left, top] = data.labels[cluster];
      const atX = (left - middle[0]) * scaleX() + width / 2;
      const atY = (top - middle[1]) * scaleY() + height / 2;
      if (!inside(atX, atY)) continue;
      const x = Math.min(Math.max(atX, half), Math.max(half, width - half));
      const free = [-16, 16, 0, -34, 34]
        .map((shift) => Math.min(Math.max(atY + shift, 12), height - 12))
        .find((y) =>
          taken.every(
            (box) =>
              x + half < box[0] || x - half > box[1] || Math.abs(y - box[2]) > 20,
          ),
        );
      if (free === undefined) continue;
      taken.push([x - half, x + half, free]);
      context.strokeText(text, x, free);
      context.fillText(text, x, free);
    }
    stage.dataset.labels = JSON.stringify(taken.map((box) => box.map(Math.round)));
  };

  const drawSelected = () => {
    if (selected < 0) return;
    context.lineWidth = 3;
    context.strokeStyle = theme("--text", "#1b1f23");
    context.beginPath();
    context.arc(screenX(selected), screenY(selected), 9, 0, 7);
    context.stroke();
  };

  const placeTip = () => {
    if (tip.hidden) return;
    const x = screenX(selected);
    const y = screenY(selected);
    const left = x + 18 + tip.offsetWidth > width ? x - 18 - tip.offsetWidth : x + 18;
    const top = Math.min(y - 24, height - tip.offsetHeight - 6);
    tip.style.transform = `translate(${Math.max(6, left)}px, ${Math.max(6, top)}px)`;
    const target = thumb.getContext("2d");
    thumb.hidden = data.tile[selected] < 0;
    target.clearRect(0, 0, 256, 256);
    drawTile(target, selected, 0, 0, 256);
  };

  const paint = () => {
    waiting = false;
    const sharp = Math.min(devicePixelRatio || 1, 2);
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, width, height);
    drawPoints();
    drawTiles();
    drawSelected();
    drawLabels();
    placeTip();
  };
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(paint);
  };

  const resize = () => {
    width = stage.clientWidth;
    height = stage.clientHeight;
    if (!width || !height) return;
    const sharp = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    // Distances across the map say little, so it may widen to fill its frame.
    const [fitX, fitY] = [(width - 2 * MARGIN) / widest, (height - 2 * MARGIN) / highest];
    baseX = Math.min(fitX, MOST_STRETCH * fitY);
    baseY = Math.min(fitY, MOST_STRETCH * fitX);
    keepInside();
    draw();
  };

  const describe = (index) =>
    `${data.names[data.cluster[index]]}, ${data.confidence[index]}%`;
  const select = (index, pinned = false, speak = false) => {
    selected = index;
    fixed = index >= 0 && pinned;
    tip.hidden = index < 0;
    tip.classList.toggle("fixed", fixed);
    if (index >= 0) {
      get("map-path").textContent = data.path[index];
      get("map-link").textContent = data.names[data.cluster[index]];
      get("map-link").href = `#cluster-${data.cluster[index]}`;
      get("map-confidence").textContent = `${data.confidence[index]}%`;
      if (speak) live.textContent = `${data.path[index]}: ${describe(index)}`;
    }
    draw();
  };

  const nearest = (x, y) => {
    let best = -1;
    let least = REACH * REACH;
    for (let index = 0; index < total; index += 1) {
      if (!shown(data.cluster[index])) continue;
      const apart = (screenX(index) - x) ** 2 + (screenY(index) - y) ** 2;
      if (apart < least) {
        least = apart;
        best = index;
      }
    }
    return best;
  };

  const zoomAt = (factor, x = width / 2, y = height / 2) => {
    const before = zoom;
    zoom = Math.min(Math.max(zoom * factor, 1), MOST_ZOOM);
    const change = 1 / before - 1 / zoom;
    middle[0] += ((x - width / 2) / baseX) * change;
    middle[1] += ((y - height / 2) / baseY) * change;
    keepInside();
    draw();
  };
  const move = (x, y) => {
    middle[0] -= x / scaleX();
    middle[1] -= y / scaleY();
    keepInside();
    draw();
  };
  const reset = () => {
    zoom = 1;
    choice.value = "";
    select(-1);
    keepInside();
    draw();
  };

  const showCluster = (cluster) => {
    choice.value = cluster;
    select(-1);
    zoom = 1;
    if (cluster !== "") {
      // Nine tenths of the images: one far away should not decide.
      const span = (values) => {
        const all = members[Number(cluster)].map((index) => values[index]);
        all.sort((a, b) => a - b);
        const cut = Math.floor(all.length / 20);
        return [all[cut], all[all.length - 1 - cut]];
      };
      const [left, right] = span(data.x);
      const [top, bottom] = span(data.y);
      middle = [(left + right) / 2, (top + bottom) / 2];
      zoom = Math.min(
        (width - 4 * MARGIN) / (Math.max(right - left, widest / 20) * baseX),
        (height - 4 * MARGIN) / (Math.max(bottom - top, highest / 20) * baseY),
      );
      live.textContent = `${data.names[Number(cluster)]}: ${members[Number(cluster)].length} images on the map`;
    }
    keepInside();
    draw();
  };

  const fingers = new Map();
  let travelled = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    if (!fingers.size) travelled = 0;
    fingers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      const index = nearest(x, y);
      canvas.classList.toggle("over", index >= 0);
      if (!fixed && index !== selected) select(index);
      return;
    }
    const others = Array.from(fingers).filter(([id]) => id !== event.pointerId);
    fingers.set(event.pointerId, [x, y]);
    travelled += Math.hypot(x - before[0], y - before[1]);
    if (others.length) {
      const [, other] = others[0];
      const apart = ([a, b]) => Math.hypot(a - other[0], b - other[1]);
      zoomAt(
        apart([x, y]) / Math.max(apart(before), 1),
        (x + other[0]) / 2,
        (y + other[1]) / 2,
      );
      move((x - before[0]) / 2, (y - before[1]) / 2);
    } else if (travelled > 4) {
      canvas.classList.add("dragging");
      move(x - before[0], y - before[1]);
    }
  });
  const lift = (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("dragging");
  };
  canvas.addEventListener("pointerup", (event) => {
    const tapped = fingers.has(event.pointerId) && travelled <= 4;
    lift(event);
    if (tapped) select(nearest(...at(event)), true, true);
  });
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => {
    if (!fixed && document.activeElement !== canvas) select(-1);
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      // A wheel on the way down the page goes on; who is in the map zooms.
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) {
        return;
      }
      event.preventDefault();
      const step = event.deltaMode ? 30 * event.deltaY : event.deltaY;
      zoomAt(Math.exp(-Math.min(Math.max(step, -200), 200) / 300), ...at(event));
    },
    { passive: false },
  );

  const arrows = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, -1],
    ArrowDown: [0, 1],
  };
  const neighbour = ([right, down]) => {
    const x = selected < 0 ? width / 2 : screenX(selected);
    const y = selected < 0 ? height / 2 : screenY(selected);
    let best = selected;
    let least = Infinity;
    for (let index = 0; index < total; index += 1) {
      if (index === selected || !shown(data.cluster[index])) continue;
      const along = (screenX(index) - x) * right + (screenY(index) - y) * down;
      const aside = Math.abs((screenX(index) - x) * down - (screenY(index) - y) * right);
      const apart = selected < 0 ? Math.hypot(along, aside) : along + 2 * aside;
      if ((selected < 0 || along > 0) && apart < least) {
        least = apart;
        best = index;
      }
    }
    return best;
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) move(-60 * arrow[0], -60 * arrow[1]);
    else if (arrow) {
      select(neighbour(arrow), true, true);
      const hidden =
        selected >= 0 && !inside(screenX(selected), screenY(selected), -MARGIN);
      if (hidden) {
        middle = [data.x[selected], data.y[selected]];
        keepInside();
      }
    } else if (event.key === "+" || event.key === "=") zoomAt(1.5);
    else if (event.key === "-" || event.key === "−") zoomAt(1 / 1.5);
    else if (event.key === "0") reset();
    else if (event.key === "Escape") select(-1);
    else if (event.key === "Enter" && selected >= 0) get("map-link").click();
    else return;
    event.preventDefault();
  });

  get("map-in").addEventListener("click", () => zoomAt(1.5));
  get("map-out").addEventListener("click", () => zoomAt(1 / 1.5));
  get("map-reset").addEventListener("click", reset);
  choice.addEventListener("change", () => showCluster(choice.value));
  document.addEventListener("click", (event) => {
    const link = event.target.closest(".on-map");
    if (link) showCluster(link.dataset.cluster);
  });
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", () => {
    printing = true;
    paint();
  });
  addEventListener("afterprint", () => {
    printing = false;
    draw();
  });
  new ResizeObserver(resize).observe(stage);
  frame.hidden = false;
  resize();
})();
