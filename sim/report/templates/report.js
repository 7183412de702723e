"use strict";
for (const stage of document.querySelectorAll(".stage")) {
  const film = JSON.parse(stage.querySelector('script[type="application/json"]').textContent);
  const canvas = stage.querySelector("canvas"), context = canvas.getContext("2d");
  const slider = stage.querySelector("input"), output = stage.querySelector("output");
  const button = stage.querySelector(".play"), raster = stage.querySelector(".raster");
  const head = stage.querySelector(".head"), score = stage.querySelector(".score");
  const actions = [...stage.querySelectorAll(".actions div")];
  const counts = [...stage.querySelectorAll(".now")];
  const strip = stage.querySelector(".spikes");
  const sheet = new Image();
  let at = 0, timer = null;

  function show(index) {
    at = (index + film.decisions) % film.decisions;
    const x = (at % film.columns) * film.width, y = Math.floor(at / film.columns) * film.height;
    context.drawImage(sheet, x, y, film.width, film.height, 0, 0, film.width, film.height);
    slider.value = at;
    output.textContent = film.first + at;
    const shot = film.shots[at];
    actions.forEach((bar, place) => {
      bar.classList.toggle("chosen", place === shot.action);
      bar.firstChild.style.height = 4 + 50 * shot.values[place] + "px";
    });
    counts.forEach((label, place) => { label.textContent = shot.spikes[place].toLocaleString("en"); });
    score.textContent = film.scored + " " + shot.score + (film.scored === "score" && shot.reward ? "   point: " + (shot.reward > 0 ? "+" : "") + shot.reward : "");
    head.style.left = strip.offsetLeft + (strip.offsetWidth * (at + 0.5)) / film.decisions + "px";
  }
  function stop() { clearInterval(timer); timer = null; button.textContent = "play"; }
  function start() { timer = setInterval(() => show(at + 1), film.interval_ms); button.textContent = "pause"; }
  function seek(event) {
    const box = strip.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share >= 0 && share < 1) { stop(); show(Math.floor(share * film.decisions)); }
  }
  button.addEventListener("click", () => (timer === null ? start() : stop()));
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  raster.addEventListener("pointerdown", seek);
  raster.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
  addEventListener("resize", () => show(at));
  sheet.onload = () => {
    stop();
    show(film.poster);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) start();
    stage.dataset.ready = "yes";
  };
  sheet.src = film.sheet;
}

// What is linked to is opened, and so is everything before it is printed.
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  if (target === null) return;
  for (let part = target; part !== null; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
const folded = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    folded.push(part);
    part.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
