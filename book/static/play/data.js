/* Files of the models, loaded as scripts when they are needed, and the worker that runs them. */
"use strict";

(() => {
  const play = mechshiftPlay;
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const waiting = new Map(); // name -> what to call with a file's content
  const loaded = new Map(); // name -> promise that the worker has it
  const asked = new Map(); // request -> what to call with its answer
  let told = null;
  let worker = null;
  let last = 0;

  function addScript(name) {
    return new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = `${base}${name}.js`;
      script.onload = () => {
        script.remove(); // a model's text is large
        done();
      };
      script.onerror = () => fail(new Error(`${name}.js isn't there`));
      document.head.append(script);
    });
  }

  /* A worker, or where the browser allows none, the page itself. */
  function start() {
    const answer = ({ data }) => {
      const { done, fail } = asked.get(data.id);
      asked.delete(data.id);
      if (data.error) fail(new Error(data.error));
      else done(data.value);
    };
    try {
      const address = URL.createObjectURL(new Blob([play.source()], { type: "text/javascript" }));
      const made = new Worker(address);
      made.onmessage = answer;
      return made;
    } catch {
      return { postMessage: (request) => setTimeout(() => answer({ data: play.serve(request) })) };
    }
  }

  /* Ask the worker (see serve.js); it answers one request after the other. */
  play.ask = (call, about) =>
    new Promise((done, fail) => {
      worker ??= start();
      last += 1;
      asked.set(last, { done, fail });
      worker.postMessage({ id: last, call, about });
    });

  play.index = (content) => {
    told = content;
  };
  play.add = (name, content) => waiting.get(name)(content);

  /* What there is: pairs, tokenizers, prompts. */
  play.about = async () => {
    if (!told) await addScript("index");
    return told;
  };

  /* The content of a model's file, such as "tiny-qwen/mdm.0". */
  play.file = async (name) => {
    const content = new Promise((done) => waiting.set(name, done));
    await addScript(name);
    return content;
  };

  /* Let the worker have a model; nothing is loaded twice. */
  play.load = (name) => {
    if (!loaded.has(name)) {
      const all = play.file(name).then((about) => play.ask("load", { name, about }));
      all.catch(() => loaded.delete(name)); // so that another try is possible
      loaded.set(name, all);
    }
    return loaded.get(name);
  };
})();
