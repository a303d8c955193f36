/* The models in the page. What computes is written as parts: functions that put something into an
   object. The page runs them, and so does a worker, which is made from their text, as a page that is
   opened from a folder may start no worker from a file. */
"use strict";

var mechshiftPlay = (() => {
  const parts = [];
  const play = {
    /* Run a part here, and keep it for the worker. */
    part(make) {
      parts.push(make);
      make(play);
    },
    /* The worker's script. */
    source: () => `"use strict";\nconst play = {};\n${parts.map((make) => `(${make})(play);`).join("\n")}\nplay.listen(self);`,
  };
  return play;
})();
