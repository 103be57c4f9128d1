"use strict";
(() => {
  const list = document.getElementById("cards");
  const toolbar = document.getElementById("toolbar");
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const count = document.getElementById("count");
  const cards = Array.from(list.children);
  const number = (card, name) => Number(card.dataset[name]);
  const compareName = new Intl.Collator(undefined, { numeric: true }).compare;
  const orders = {
    large: (a, b) => number(b, "size") - number(a, "size"),
    small: (a, b) => number(a, "size") - number(b, "size"),
    sure: (a, b) => number(b, "confidence") - number(a, "confidence"),
    unsure: (a, b) => number(a, "confidence") - number(b, "confidence"),
    name: (a, b) => compareName(a.dataset.name, b.dataset.name),
    number: () => 0,
  };

  const sort = () => {
    const compare = orders[order.value];
    cards.sort((a, b) => compare(a, b) || number(a, "index") - number(b, "index"));
    list.append(...cards);
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const text = card.dataset.search;
      card.hidden = !words.every((word) => text.includes(word));
      shown += card.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${cards.length} shown` : "";
  };

  order.addEventListener("change", sort);
  search.addEventListener("input", filter);
  toolbar.hidden = false;
  // A browser restores both on going back; show what they say.
  if (order.value !== "large") sort();
  if (search.value) filter();

  // A link to a card that the search hides shows all cards again.
  addEventListener("hashchange", () => {
    const card = document.getElementById(location.hash.slice(1));
    if (card && card.hidden) {
      search.value = "";
      filter();
      card.scrollIntoView();
    }
  });

  const viewer = document.getElementById("viewer");
  const picture = document.getElementById("viewer-picture");
  let current = null;

  const pathOf = (thumb) => {
    const image = thumb.querySelector("img");
    return image ? image.alt : thumb.textContent.trim();
  };

  const show = (thumb) => {
    current = thumb;
    const image = thumb.querySelector("img");
    picture.hidden = !image;
    if (image) picture.src = image.src;
    document.getElementById("viewer-path").textContent = pathOf(thumb);
    document.getElementById("viewer-text").textContent = thumb.dataset.text;
    if (!viewer.open) viewer.showModal();
  };

  const siblings = (thumb) =>
    Array.from(thumb.closest("ul").querySelectorAll(".thumb"));

  const step = (thumb, by) => {
    const all = siblings(thumb);
    return all[all.indexOf(thumb) + by];
  };

  document.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) show(thumb);
    else if (event.target === viewer) viewer.close();
  });

  // The tooltip is made when it is wanted: in the page it would say everything
  // twice to a screen reader.
  document.addEventListener("pointerover", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) thumb.title = `${pathOf(thumb)}\n${thumb.dataset.text}`;
  });

  // One tab stop a grid; the arrow keys move inside it.
  document.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    if (viewer.open) {
      const next = step(current, by);
      if (next) show(next);
      return;
    }
    const thumb = event.target.closest(".thumb");
    const next = thumb && step(thumb, by);
    if (!next) return;
    event.preventDefault();
    thumb.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
})();
