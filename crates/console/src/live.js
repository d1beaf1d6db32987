// Swaps the parts of this page that changed, as the server sends them. Without it the page is whole and stands still.
"use strict";
(() => {
  const path = document.body.dataset.live;
  const button = document.getElementById("pause");
  const note = document.getElementById("live-note");
  if (!path || !button || !note || !window.EventSource) return;

  let source = null;
  let paused = false;
  // What came for a part that somebody is using waits here.
  const waiting = new Map();

  const isUsed = (part) => {
    const selection = document.getSelection();
    const selected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
    return selected || part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
  };

  const show = () => {
    for (const [id, html] of waiting) {
      const part = document.getElementById(id);
      if (part && isUsed(part)) continue;
      if (part) part.innerHTML = html;
      waiting.delete(id);
    }
  };

  const say = () => {
    button.hidden = false;
    button.textContent = paused ? "Go on" : "Pause";
    note.textContent = paused ? "Paused" : source && source.readyState === 1 ? "Live" : "Connecting";
  };

  const close = () => {
    if (source) source.close();
    source = null;
    say();
  };

  const open = () => {
    if (source || paused || document.hidden) return;
    source = new EventSource(path);
    source.onopen = say;
    source.onerror = () => {
      // The server has no place for another reader: the page stands still and says so.
      if (source && source.readyState === 2) {
        source = null;
        paused = true;
      }
      say();
    };
    source.onmessage = (event) => {
      for (const [id, html] of Object.entries(JSON.parse(event.data))) waiting.set(id, html);
      show();
    };
    say();
  };

  button.addEventListener("click", () => {
    paused = !paused;
    if (paused) close();
    else open();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
})();
