-- Train on the table of `dbml demo`, register the model, and score a few rows and the whole table.
SELECT * FROM dbml.run_script($$
from sklearn.linear_model import LinearRegression

X, y = InputDataSet[['bmi', 'bp', 's5']], InputDataSet.progression
model = LinearRegression().fit(X, y)
run.log('r2', model.score(X, y))
print('trained on', len(X), 'patients')
OutputDataSet = {'version': [run.register_model('progression', model)]}
$$,
    input_query => 'SELECT bmi, bp, s5, progression FROM demo.diabetes',
    experiment  => 'readme'
) AS t(version int);

SELECT patient, progression, round(dbml.predict_row('progression', d)::numeric, 1) AS predicted
FROM demo.diabetes d WHERE patient <= 3;

SELECT dbml.predict_into('progression', 'SELECT * FROM demo.diabetes', 'demo.scored', 'replace');
