(() => {
  const cut = document.getElementById("tree-cut");
  if (!cut) return;
  const groups = document.getElementById("tree-groups");
  const count = document.getElementById("tree-count");
  const branches = Array.from(document.querySelectorAll("#tree-root .branch"));
  cut.hidden = false;
  groups.addEventListener("input", () => {
    count.value = groups.value;
    for (const branch of branches) {
      branch.open = Number(branch.dataset.split) <= Number(groups.value);
    }
  });
})();
